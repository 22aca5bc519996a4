"""How the numbers came about, in words with citations."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ramw_fed.config import ErosionConfig
from ramw_fed.report.citations import Bibliography
from ramw_fed.report.document import Items, Paragraph, Section, text
from ramw_fed.report.facts import Facts
from ramw_fed.report.words import list_words

_METHODS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fedavg": ("FedAvg: the mean of the centers' weights, weighted by their patients", ("fedavg",)),
        "fedprox": (
            "FedProx: FedAvg, with a proximal term that holds each center's steps near the shared weights",
            ("fedavg", "fedprox"),
        ),
        "fedbn": (
            "FedBN: FedAvg of all but batch normalisation, which stays at each center with its scale and statistics",
            ("fedavg", "fedbn"),
        ),
        "silobn": (
            "SiloBN: FedAvg, while the running statistics of batch normalisation stay at each center",
            ("fedavg", "silobn"),
        ),
    }
)
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "fedavg": "FedAvg",
        "fedprox": "FedProx",
        "fedbn": "FedBN",
        "silobn": "SiloBN",
        "scaffold": "SCAFFOLD",
        "fednova": "FedNova",
        "fedadam": "FedAdam",
        "fedyogi": "FedYogi",
        "fedadagrad": "FedAdagrad",
        "ditto": "Ditto",
        "qffl": "q-FFL",
    }
)
_NO: Mapping[str, str] = MappingProxyType({"none": "no"})
_LOSSES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "logit-adjustment": ("cross-entropy on logits shifted by the log odds of {counts}", ("logit",)),
        "weighted": ("cross-entropy with eroded joints weighted {positive-weight:g} to 1", ()),
        "class-balanced": ("cross-entropy weighted by the effective numbers of {counts}", ("balanced",)),
        "focal": ("the focal loss with gamma = {focal-gamma:g}", ("focal",)),
        "cross-entropy": ("cross-entropy", ()),
        "distance-weighted": (
            "cross-entropy of grades, weighted by their distance from the true one to the power of {distance-power:g}",
            ("distance",),
        ),
    }
)
_COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "local": "each center's own classes (local prior)",
        "federated": "the classes of all centers together (federated prior)",
    }
)
_ROWS: Mapping[str, str] = MappingProxyType(
    {
        "shuffled": "every joint once a pass",
        "classes": "as many joints a pass as there are, both classes drawn equally often",
        "patients": "as many joints a pass as there are, all patients drawn equally often",
    }
)
_RULES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "youden": ("the largest sum of sensitivity and specificity", ("youden",)),
        "sensitivity": ("the largest that still finds a share of {least-sensitivity:g} of the eroded joints", ()),
    }
)
_CALIBRATIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"temperature": ("temperature scaling", "guo"), "platt": ("Platt scaling", "platt")}
)


def method_name(method: str) -> str:
    """Return a method's name as its paper spells it; another's as the configuration does."""
    return _NAMES.get(method, method)


def method_words(method: str, marks: Bibliography) -> str:
    """Say what a federated method does, with its source; of a user's own only the name is known."""
    if method not in _METHODS:
        return f"the method {method_name(method)}"
    words, keys = _METHODS[method]
    return f"{words} {marks.cite(*keys)}"


def run_methods(facts: Facts, marks: Bibliography) -> Section:
    """Write the methods of a run from its knobs."""
    knobs = facts.get("knobs")
    blocks: list[Paragraph | Items] = [Paragraph(text(_federation(facts, marks)))]
    if "segmentation" in facts.get("cards"):
        blocks.append(Paragraph(text(segmentation_words(knobs["segmentation"], marks))))
    if "erosion" in facts.get("cards"):
        blocks.append(Paragraph(text(_erosion(facts, marks))))
    blocks.append(Paragraph(text(statistics_words(knobs["resamples"], knobs["seed"], marks))))
    blocks.append(Items([(work,) for work in marks.listed()], title="References"))
    return Section(name="methods", title="Methods", blocks=blocks)


def _federation(facts: Facts, marks: Bibliography) -> str:
    knobs, manifest = facts.get("knobs"), facts.get("manifest")
    mu = f" with mu = {knobs['proximal-mu']:g}" if "proximal-mu" in knobs else ""
    if "unseen-batch-norm" in knobs:
        mu += f"; a center that took no part gets its batch normalisation by the rule {knobs['unseen-batch-norm']}"
    travels = "weights travel, radiographs do not"
    if knobs.get("pool"):
        travels = "here with all radiographs pooled as one center's"
    sides = "all radiographs of a patient lie on one side of it"
    if knobs["allow-leakage"]:
        sides = "a patient may lie on both of its sides, which was allowed for this run: its results are optimistic"
    cohort = cohort_words(manifest["cohort"]["kind"], marks)
    return (
        f"Data: {cohort} (sha256 {manifest['cohort']['sha256'][:12]}). Training: {method_words(knobs['method'], marks)}"
        f"{mu}, over Flower {marks.cite('flower')}; {travels}. The {knobs['split']} split was used; {sides}. "
        f"{_choice(knobs)}"
    )


def _choice(knobs: Mapping[str, Any]) -> str:
    """Say how the round was chosen that is reported, and what became of the test split."""
    if knobs.get("evaluation") == "none":
        return "The last round is reported, as was fixed beforehand; no validation or test patient was looked at."
    if knobs.get("evaluation") == "paid":
        return (
            "The round that is reported was chosen by sums over the centers' validation patients with normal noise "
            f"(noise multiplier {knobs['evaluation-noise']:g}), which epsilon covers; no test patient was looked at."
        )
    return (
        "The round that is reported was chosen on the centers' validation data; the test split is opened once, after "
        "that choice."
    )


def cohort_words(kind: str, marks: Bibliography) -> str:
    """Say what the images are."""
    if kind == "phantom":
        return f"a synthetic phantom cohort laid out as RAM-W600 {marks.cite('ramw600')}"
    return "a cohort of real radiographs"


def segmentation_words(knobs: Mapping[str, Any], marks: Bibliography) -> str:
    """Say how bones were learned and measured, from the knobs of the task in file spelling."""
    network = (
        f"{knobs['architecture']} {marks.cite('unet')}" if knobs["architecture"] == "unet" else knobs["architecture"]
    )
    return (
        f"Segmentation: a {network} with encoder {knobs['encoder']} at {knobs['image-size']} px, one sigmoid a bone, "
        f"so that bones may overlap; {_training(knobs)}. Measured at each radiograph's own size: Dice (DSC) "
        f"{marks.cite('dice')}, surface Dice (NSD) within {knobs['tolerance-px']:g} px {marks.cite('nsd')}, and the "
        f"95th percentile of distances between outlines (HD95) {marks.cite('hausdorff')}. Bones that the truth has and "
        "the model does not find count as missing, with DSC and NSD 0. A radiograph's value is the mean over its "
        f"bones, a patient's the mean over the radiographs, a center's the mean over its patients "
        f"{marks.cite('reloaded')}."
    )


def _erosion(facts: Facts, marks: Bibliography) -> str:
    config = ErosionConfig.read(facts.get("knobs", "erosion"))
    choice = threshold_words(config, marks, facts.get("decision").get("erosion", {}))
    return erosion_words(config, marks, top=facts.get("cards", "erosion", "max_grade"), choice=choice)


def erosion_words(config: ErosionConfig, marks: Bibliography, *, top: int | None, choice: str) -> str:
    """Say what erosion is, how it was learned and how probabilities are read.

    Args:
        config: Its knobs.
        marks: What is cited.
        top: Highest grade of the scale; None where it is not known.
        choice: How the threshold came about, see :func:`threshold_words`.
    """
    knobs, scale = config.write(), "" if top is None else f", 0 to {top}"
    # The grades of RAM-W600's joints are 0 to 5; a cohort that declares others has a scale of its own.
    named = f"its scale{scale}"
    if top in (None, 5):
        named = f"the Sharp/van der Heijde scale{scale} {marks.cite('svdh')}"
    words, keys = _LOSSES[config.loss]
    loss = words.format(**knobs, counts=_COUNTS[config.prior or "local"]) + (f" {marks.cite(*keys)}" if keys else "")
    rows = "" if config.clip_norm is not None else f", {_ROWS[config.rows]}"
    return (
        f"Erosion: a joint counts as eroded from grade 1 of {named}; a {config.encoder} sees a crop of "
        f"{config.crop_size} px around it, learning by {loss}{rows}; {_training(knobs)}. {choice} "
        "Because erosions are rare, AUPRC stands beside "
        f"AUROC {marks.cite('prauc')}; calibration by slope, intercept and error {marks.cite('calibration')}."
    )


def threshold_words(config: ErosionConfig, marks: Bibliography, decision: Mapping[str, Any] | None) -> str:
    """Say how threshold and probabilities were chosen.

    Args:
        config: With what was chosen, where ``decision`` is given.
        marks: What is cited.
        decision: What ``decision.json`` says of the task, empty where there was nothing to choose; None: of several
            models, which chose for themselves.
    """
    if decision is not None and "reason" in decision:
        return f"The threshold is {config.threshold:g}; {decision['reason']}."
    at, before = "" if decision is None else f", {config.threshold:g},", "before the test split was opened"
    said = []
    if config.calibration != "none":
        name, key = _CALIBRATIONS[config.calibration]
        said.append(f"Probabilities were corrected by {name} {marks.cite(key)} on all centers' validation joints.")
    if config.threshold_rule == "fixed" and (config.calibration == "none" or decision is None):
        own = "" if config.calibration == "none" else " of the probability before that correction"
        said.append(f"The threshold {config.threshold:g}{own} was fixed {before}.")
    elif config.threshold_rule == "fixed":
        said.append(f"The threshold was fixed {before}; of corrected probabilities it is {config.threshold:g}.")
    else:
        words, keys = _RULES[config.threshold_rule]
        cited = f" {marks.cite(*keys)}" if keys else ""
        said.append(
            f"The threshold{at} was chosen on all centers' validation joints, {before}: "
            f"{words.format(**config.write())}{cited}."
        )
    if config.own_thresholds:
        said.append(
            f"{list_words(list(config.thresholds()))} had enough such patients for a threshold of their own; what is "
            "counted and measured here is by the common one, unless it says otherwise."
        )
    return " ".join(said)


def _training(knobs: Mapping[str, Any]) -> str:
    drawn = f"batches of {knobs['batch-size']}"
    if "clip-norm" in knobs:
        drawn = (
            f"each patient drawn into each step with equal chance, {knobs['patients-per-step']} on average, gradients "
            f"cut to {knobs['clip-norm']:g} by patient and summed with normal noise (Privacy)"
        )
    if knobs.get("trainable") == "head":
        drawn += ", only the last layer learning"
    return (
        f"{knobs['num-rounds']} rounds of {knobs['local-epochs']} local epochs, {drawn}, "
        f"{knobs['optimizer']} at {knobs['learning-rate']:g}, {knobs['norm']} norm, "
        f"{_NO.get(knobs['augmentation'], knobs['augmentation'])} augmentation"
    )


def statistics_words(resamples: int, seed: int, marks: Bibliography, more: Sequence[str] = ()) -> str:
    """Say how intervals were made."""
    return " ".join(
        (
            f"Statistics: 95 % intervals by bootstrap over patients within centers, {resamples} resamples, seed {seed} "
            f"{marks.cite('bootstrap')}; none is given below five patients. Pooled: over all patients of all centers; "
            "macro: mean of the centers' values. What is not estimable says why, and is never shown as 0.",
            *more,
        )
    )
