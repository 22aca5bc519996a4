"""What a run found, in sentences made from its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from ramw_fed.report.digits import percent
from ramw_fed.report.document import Text, text
from ramw_fed.report.facts import Facts
from ramw_fed.report.measures import LESS_IS_BETTER, form, title
from ramw_fed.report.tables import Address

_PHANTOM = (
    "Synthetic phantom images only: no patient stands behind these numbers, and they say nothing about how well the "
    "method would do on patients."
)
PHANTOM_WARNING: Text = (_PHANTOM,)


def count(facts: Facts, *keys: str | int) -> Text:
    """Return the whole number at ``keys``."""
    return (facts.number(*keys, form=str),)


def patients(number: int) -> str:
    """Return the noun for so many."""
    return "patient" if number == 1 else "patients"


def capital(words: str) -> str:
    """Return words as they begin a sentence."""
    return words[:1].upper() + words[1:]


def list_words(words: Sequence[str]) -> str:
    """Return a list as it is read.

    >>> list_words(["a"]), list_words(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def what_was_done(facts: Facts, method: str) -> Text:
    """Say what was trained, by how many centers and on how much."""
    tasks = sorted(facts.get("cards"), reverse=True)  # segmentation before erosion
    parts: list[Any] = [f"{method} trained {list_words(tasks)} over ", *count(facts, "derived", "num_centers")]
    parts.append(" centers, without pooling radiographs. ")
    if facts.get("knobs").get("pool"):
        parts = [
            f"{list_words(tasks).capitalize()} learned from all centers' radiographs pooled, without a federation. "
        ]
    for task in tasks:
        parts += [
            f"{task.capitalize()} learned from ",
            *count(facts, "derived", "totals", task, "patients"),
            " patients",
            *_examples(facts, task),
            " of ",
            *count(facts, "derived", "totals", task, "centers"),
            " centers; the model of round ",
            *count(facts, "cards", task, "round"),
            _chosen(facts, task),
        ]
    opened = (
        "The test split was opened once, after that choice." if facts.get("metrics") else "The test split is closed."
    )
    return text(*parts, opened)


def _chosen(facts: Facts, task: str) -> str:
    evaluation = facts.get("knobs").get("evaluation")
    if evaluation == "none":
        return " is the last one, as was fixed beforehand. "
    if not facts.get("derived", "totals", task, "validation"):
        return " is the last one: there was no validation data to choose by. "
    if evaluation == "paid":
        return " was chosen by noisy sums over validation patients. "
    return " was chosen on validation data. "


def absences(rounds: Sequence[Mapping[str, Any]], enrolled: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which centers' updates did not come into which share of the rounds, and under which codes; often nothing."""
    said = []
    for task, centers in sorted(enrolled.items()):
        own = [record for record in rounds if record["task"] == task]
        for center in sorted(centers):
            without = [record for record in own if center not in record["centers"] or not record["aggregated"]]
            codes = {each["code"] for record in without for each in record["rejections"] if each["center"] == center}
            if without:
                why = f" ({', '.join(sorted(codes))})" if codes else ""
                said.append(f"{task.capitalize()} went without {center} in {len(without)} of {len(own)} rounds{why}.")
    return said


def _examples(facts: Facts, task: str) -> Text:
    """Say how many examples there were; where patients are protected no center told."""
    if facts.has("manifest", "privacy"):
        return ()
    number = count(facts, "derived", "totals", task, "examples")
    return text(" (", *number, f" {'joints' if task == 'erosion' else 'radiographs'})")


def estimate_sentence(facts: Facts, at: Address, metric: str) -> Text:
    """Say one pooled measure with its interval, or why there is none."""
    entry = facts.get(*at, "pooled", metric)
    if entry["value"] is None:
        return (f"{capital(title(metric))} pooled over centers is not estimable: {entry['reason']}. ",)
    value = facts.estimate(*at, "pooled", metric, reasons=[], form=form(metric))
    return text(
        f"{capital(title(metric))} is ",
        value,
        " over ",
        facts.count(*at, "pooled", metric),
        " test ",
        patients(facts.get(*at, "pooled", metric, "n")),
        ". ",
    )


def spread_sentence(facts: Facts, at: Address, metric: str) -> Text:
    """Say at which center a measure is best and worst; nothing below two centers with a value."""
    known = {
        center: facts.get(*at, "centers", center, metric, "value")
        for center in facts.keys(*at, "centers")
        if facts.get(*at, "centers", center, metric, "value") is not None
    }
    if len(known) < 2:
        return ()
    sign = -1 if metric in LESS_IS_BETTER else 1
    worst, *_, best = sorted(known, key=lambda center: (sign * known[center], center))

    def at_center(center: str) -> Text:
        value = facts.number(*at, "centers", center, metric, "value", form=form(metric))
        return text(
            value,
            f" at {center} (",
            facts.count(*at, "centers", center, metric),
            " ",
            patients(facts.get(*at, "centers", center, metric, "n")),
            ")",
        )

    return text(f"By center {title(metric)} runs from ", at_center(worst), " to ", at_center(best), ". ")


def baseline_sentence(facts: Facts, task: str, split: str, metric: str) -> Text:
    """Say which baselines the run does not exceed, or that it exceeds them all; nothing where there are none."""
    own = facts.get("metrics", task, split, "pooled", metric, "value")
    arms: Mapping[str, Any] = {
        arm: facts.get("baselines", arm, task, split, "pooled", metric, "value")
        for arm in facts.keys("baselines")
        if facts.has("baselines", arm, task, split, "pooled", metric, "value")
    }
    known = {arm: value for arm, value in arms.items() if value is not None}
    if own is None or not known:
        return ()
    sign = -1 if metric in LESS_IS_BETTER else 1
    ahead = [arm for arm in known if sign * known[arm] >= sign * own]
    named = list_words([*(ahead or known)])
    shown: list[Any] = []
    for arm in ahead or known:
        shown += [
            "; " if shown else "",
            f"{arm} ",
            facts.number("baselines", arm, task, split, "pooled", metric, "value"),
        ]
    verdict = f"The federated model does not exceed {named}" if ahead else f"It exceeds {named}"
    return text(f"{verdict} ({title(metric)}: ", *shown, "). ")


def erosion_sentence(facts: Facts) -> Text:
    """Say how many erosions were missed, and from which grade on; nothing where single joints are not known."""
    if not facts.has("derived", "erosion", "prevalence"):
        return ()
    at = ("derived", "erosion")
    said = text(
        "Of ",
        *count(facts, *at, "joints"),
        " scored test joints ",
        *count(facts, *at, "eroded"),
        " are eroded (prevalence ",
        facts.number(*at, "prevalence", form=percent),
        "); at the threshold ",
        facts.number("knobs", "erosion", "threshold"),
        " the model misses ",
        *count(facts, *at, "missed"),
        " of them and calls ",
        *count(facts, *at, "false"),
        " intact joints eroded. ",
    )
    grades = facts.keys(*at, "grades")
    if not grades:
        return said
    worst = max(grades, key=int)
    where = (*at, "grades", worst)
    return text(
        said,
        f"Of the highest grade, {worst}, it misses ",
        *count(facts, *where, "missed"),
        " of ",
        *count(facts, *where, "eroded"),
        ". ",
    )
