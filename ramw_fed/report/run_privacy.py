"""What a run's report says of its patients' privacy."""

from typing import Any

from ramw_fed.report.document import Block, Items, Paragraph, Section, Table, Text, text
from ramw_fed.report.facts import Facts
from ramw_fed.report.run_facts import RunMaterial

_AT = ("manifest", "privacy")


def privacy(run: RunMaterial) -> Section | None:
    """Lay out unit, guarantee of each center and every release with its cost; None where nobody is protected."""
    facts = run.facts
    if not facts.has(*_AT):
        return None
    said: dict[str, Any] = facts.get(*_AT)
    blocks: list[Block] = [Paragraph(text(*guarantee(facts), "."))]
    if said["randomness"].startswith("seeded"):
        blocks.append(Paragraph((f"Noise was {said['randomness']}.",), kind="warning"))
    named = ("unit", "neighbours", "assumption", "mechanism", "sampling", "randomness")
    blocks.append(Items([(f"{name}: {said[name]}",) for name in named], title="What the guarantee is of"))
    if said["untold"]:
        words = f"No update of {', '.join(said['untold'])} came that could be read: what they spent, their ledgers say."
        blocks.append(Paragraph((words,), kind="warning"))
    blocks += [_centers(facts), _releases(facts)]
    return Section(name="privacy", title="Privacy", blocks=blocks)


def guarantee(facts: Facts) -> Text:
    """Return the guarantee of a run in one sentence."""
    if not facts.has(*_AT):
        return ("none: no differential privacy was applied to the updates",)
    if not facts.keys(*_AT, "centers"):
        return ("differential privacy was asked for, and no center said what it spent",)
    return text(
        "(epsilon, delta)-differential privacy of each patient at each center; the largest epsilon is ",
        facts.number(*_AT, "largest_epsilon"),
        ". Epsilon and delta of every center, and what leaves outside of it, stand in the section Privacy",
    )


def _centers(facts: Facts) -> Table:
    def row(center: str) -> list[Text]:
        at = (*_AT, "centers", center)
        spent: list[Text] = [(facts.number(*at, "epsilon", name),) for name in ("pld", "prv", "rdp")]
        delta: Text = (facts.number(*at, "delta", form=lambda value: f"{value:.1e}"),)
        # None where validations were taken and no update was.
        has_noise = facts.get(*at, "noise_multiplier") is not None
        noise: Text = (facts.number(*at, "noise_multiplier"),) if has_noise else ("-",)
        total, cap = ((facts.number(*at, name),) for name in ("spent", "cap"))
        return [(center,), *spent, delta, noise, total, cap]

    return Table(
        name="privacy-centers",
        caption="Epsilon of this run by center, and what the center's ledger holds in all",
        header=("center", "epsilon (PLD)", "PRV", "RDP", "delta", "noise multiplier", "spent in all", "cap"),
        rows=[row(center) for center in facts.keys(*_AT, "centers")],
        notes=("PLD is what is claimed; PRV is another accountant's value, RDP an upper bound.",),
    )


def _releases(facts: Facts) -> Table:
    return Table(
        name="privacy-releases",
        caption="Everything that leaves a center, or could, and what it costs its patients",
        header=("release", "cost"),
        rows=[[(one["what"],), (one["cost"],)] for one in facts.get(*_AT, "releases")],
    )
