"""How the numbers came about, in words with citations."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ramw_fed.report.citations import Bibliography
from ramw_fed.report.document import Items, Paragraph, Section, text
from ramw_fed.report.facts import Facts

_METHODS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fedavg": ("FedAvg: the mean of the centers' weights, weighted by their patients", ("fedavg",)),
        "fedprox": (
            "FedProx: FedAvg, with a proximal term that holds each center's steps near the shared weights",
            ("fedavg", "fedprox"),
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
_LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "logit-adjustment": "cross-entropy on logits shifted by each center's own prior",
        "weighted": "weighted cross-entropy",
        "focal": "the focal loss",
        "cross-entropy": "cross-entropy",
    }
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
        blocks.append(Paragraph(text(_segmentation(knobs["segmentation"], marks))))
    if "erosion" in facts.get("cards"):
        blocks.append(Paragraph(text(_erosion(facts, knobs["erosion"], marks))))
    blocks.append(Paragraph(text(statistics_words(knobs["resamples"], knobs["seed"], marks))))
    blocks.append(Items([(work,) for work in marks.listed()], title="References"))
    return Section(name="methods", title="Methods", blocks=blocks)


def _federation(facts: Facts, marks: Bibliography) -> str:
    knobs, manifest = facts.get("knobs"), facts.get("manifest")
    mu = f" with mu = {knobs['proximal-mu']:g}" if "proximal-mu" in knobs else ""
    travels = "weights travel, radiographs do not"
    if knobs.get("pool"):
        travels = "here with all radiographs pooled as one center's"
    sides = "all radiographs of a patient lie on one side of it"
    if knobs["allow-leakage"]:
        sides = "a patient may lie on both of its sides, which was allowed for this run: its results are optimistic"
    kind = (
        f"a synthetic phantom cohort laid out as RAM-W600 {marks.cite('ramw600')}"
        if manifest["cohort"]["kind"] == "phantom"
        else "a cohort of real radiographs"
    )
    return (
        f"Data: {kind} (sha256 {manifest['cohort']['sha256'][:12]}). Training: {method_words(knobs['method'], marks)}"
        f"{mu}, over Flower {marks.cite('flower')}; {travels}. The {knobs['split']} split was used; {sides}. The round "
        "that is reported was chosen on the centers' validation data; the test split is opened once, after that choice."
    )


def _segmentation(knobs: Mapping[str, Any], marks: Bibliography) -> str:
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


def _erosion(facts: Facts, knobs: Mapping[str, Any], marks: Bibliography) -> str:
    adjusted = f" {marks.cite('logit')}" if knobs["loss"] == "logit-adjustment" else ""
    top = facts.get("cards", "erosion", "max_grade")
    return (
        f"Erosion: a joint counts as eroded from grade 1 of the Sharp/van der Heijde scale, 0 to {top} "
        f"{marks.cite('svdh')}; a {knobs['encoder']} sees a crop of {knobs['crop-size']} px around it, learning by "
        f"{_LOSSES[knobs['loss']]}{adjusted}; {_training(knobs)}. The threshold {knobs['threshold']:g} was fixed "
        f"before the test split was opened. Because erosions are rare, AUPRC stands beside AUROC "
        f"{marks.cite('prauc')}; calibration by slope, intercept and error {marks.cite('calibration')}."
    )


def _training(knobs: Mapping[str, Any]) -> str:
    return (
        f"{knobs['num-rounds']} rounds of {knobs['local-epochs']} local epochs, batches of {knobs['batch-size']}, "
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
