"""The model card (Mitchell et al. 2019), made from what the run left behind; what it cannot say it names."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ramw_fed.report.document import Block, Paragraph, Section, Table, Text, text
from ramw_fed.report.facts import Facts
from ramw_fed.report.run_privacy import guarantee

Field = tuple[str, Callable[[Facts, str], Text]]
"""Title, and what a task's card says under it; raises KeyError where the run left nothing to say it from."""


def _versions(facts: Facts, _task: str) -> Text:
    return (", ".join(f"{name} {version}" for name, version in sorted(facts.get("manifest", "versions").items())),)


def _intended_use(facts: Facts, task: str) -> Text:
    kind = facts.get("cards", task, "kind")
    if kind == "phantom":
        return ("Development and teaching only. The weights saw synthetic images; no use on patients is intended.",)
    return ("Research on federated learning. No medical device; not for diagnosis or treatment.",)


def _output(facts: Facts, task: str) -> Text:
    bones, joints = facts.get("cards", task, "bones"), facts.get("cards", task, "joints")
    if task == "erosion":
        return (f"Probability of an erosion at each of {', '.join(joints)}",)
    return (f"One mask a bone: {', '.join(bones)}",) if task == "segmentation" else (f"Of the task {task}",)


def _trained_on(facts: Facts, task: str) -> Text:
    at = ("derived", "totals", task)
    centers = len(facts.get("manifest", "centers", task))
    return text(
        f"{facts.get('cards', task, 'kind')} cohort, sha256 {facts.get('cards', task, 'cohort')[:12]}; ",
        facts.number(*at, "patients", form=str),
        " training patients, ",
        *(() if facts.has("manifest", "privacy") else (facts.number(*at, "examples", form=str), " examples ")),
        f"at {centers} centers",
    )


def _network(facts: Facts, task: str) -> Text:
    knobs: Mapping[str, Any] = facts.get("knobs", task)
    named = [f"{key} {knobs[key]}" for key in ("architecture", "encoder", "image-size", "crop-size") if key in knobs]
    return (f"{', '.join(named)}; {knobs['norm']} norm",)


def _start(facts: Facts, task: str) -> Text:
    start: Mapping[str, Any] = facts.get("manifest").get("start", {}).get(task, {})
    if not start:
        return ("seeded weights",)
    said = f"weights of a {start['kind']} cohort, sha256 {start['sha256'][:12]}"
    return (f"{said}; only the last layer learned" if facts.get("knobs", task).get("trainable") == "head" else said,)


def _left_out(facts: Facts, _task: str) -> Text:
    left_out: Mapping[str, Any] = facts.get("manifest", "left_out")
    if not left_out and facts.has("manifest", "privacy"):
        return ("not told: it would tell of patients",)
    return ("; ".join(f"{center}: {reasons}" for center, reasons in sorted(left_out.items())) or "nothing",)


def _limits(facts: Facts, task: str) -> Text:
    said = ["No external validation is part of a single run."]
    if facts.get("cards", task, "kind") == "phantom":
        said.insert(0, f"Trained{' and tested' if facts.get('metrics') else ''} on synthetic images.")
    return (" ".join(said),)


def _shared(facts: Facts, _task: str) -> Text:
    if facts.has("manifest", "privacy"):
        return ("weights with noise each round, and what the table of releases under Privacy lists; no radiograph",)
    return ("weights, counts and validation sums each round; no radiograph",)


FIELDS: Sequence[Field] = (
    ("Task", lambda _facts, task: (task,)),
    ("Output", _output),
    ("Intended use", _intended_use),
    ("Network", _network),
    ("Federated method", lambda facts, _task: (str(facts.get("knobs", "method")),)),
    ("Round chosen", lambda facts, task: (facts.number("cards", task, "round", form=str),)),
    ("Started from", _start),
    ("Trained on", _trained_on),
    ("Left out", _left_out),
    ("Unit of analysis", lambda _facts, _task: ("the patient",)),
    ("Shared between parties", _shared),
    ("Privacy guarantee", lambda facts, _task: guarantee(facts)),
    (
        "Engine and device",
        lambda facts, _task: (f"{facts.get('manifest', 'engine')}, {facts.get('manifest', 'device')}",),
    ),
    ("Seed", lambda facts, _task: (facts.number("manifest", "seed", form=str),)),
    ("Commit", lambda facts, _task: (str(facts.get("manifest", "git_commit") or "not run from a checkout"),)),
    ("Versions", _versions),
    ("Limits", _limits),
)


def model_card(facts: Facts) -> Section:
    """Return the card of each task's weights; a field that the run left nothing for is named as missing."""
    blocks: list[Block] = []
    missing: set[str] = set()
    for task in sorted(facts.get("cards")):
        rows = []
        for title, say in FIELDS:
            try:
                said = say(facts, task)
            except (AttributeError, IndexError, KeyError, TypeError):
                said = ("open: the run left nothing to say this from",)
                missing.add(title)
            rows.append([(title,), said])
        blocks.append(Table(name=f"card-{task}", caption=f"Model card: {task}", header=("field", "content"), rows=rows))
    if missing:
        named = f"This card is incomplete and must not go with the weights: {', '.join(sorted(missing))}."
        blocks.insert(0, Paragraph((named,), kind="warning"))
    return Section(name="model-card", title="Model card", blocks=blocks)
