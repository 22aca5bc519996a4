"""The page for a data protection officer: what can be seen of a patient in the bytes that leave a hospital."""

from collections.abc import Mapping
from typing import Any

from ramw_fed.report.digits import counted, short
from ramw_fed.report.document import Block, Document, Items, Paragraph, Picture, Section, Table, Text, text
from ramw_fed.report.facts import Facts
from ramw_fed.report.run_report import tools

_WHAT: Mapping[str, str] = {
    "one image": "one step on one image, nothing protects it",
    "one image, ordinary weights": "the same, but the coordinator sends the ordinary weights of a first round",
    "usual round": "a whole round over all patients of the center, nothing protects them",
    "usual round, epsilon 8": "a whole round, patients protected; the run of all rounds spends epsilon 8",
    "usual round, epsilon 1": "a whole round, patients protected; the run of all rounds spends epsilon 1",
    "one image, epsilon 8": "one step on one image, which alone spends epsilon 8",
    "one image, epsilon 1": "one step on one image, which alone spends epsilon 1",
}


def reconstruction_document(tree: Mapping[str, Any], jpeg: bytes, sources: Mapping[str, str]) -> Document:
    """Return the page.

    Args:
        tree: As ``reconstruction.json`` holds it.
        jpeg: The pictures.
        sources: Names of the files to their sha256.
    """
    facts = Facts(tree)
    sections = [_answer(facts), _pictures(jpeg), _table(facts), _attacker(facts), _limits()]
    return Document(
        kind="reconstruction",
        title="What can be seen of a patient in what leaves the hospital",
        lead=f"Attacks on updates of the erosion network; synthetic phantom patients; seed {facts.get('seed')}",
        sections=sections,
        sources=dict(sources),
        tools=tools(),
        options={},
    )


def _answer(facts: Facts) -> Section:
    blocks: list[Block] = [
        Paragraph(
            (
                "In a federation no image leaves the hospital. What leaves is an update: the numbers of a network "
                "after it was trained on the hospital's images. This page asks whether the images can be seen in it. "
                "It attacks updates that the installed software has made and packed as it sends them, of phantoms: no "
                "patient is in any picture here.",
            )
        )
    ]
    control, private = (facts.get("checks", number, "holds") for number in (0, 1))
    if not control:
        failed = text(
            "The attack failed also where nothing protects the image: it showed ",
            *_shown(facts, 0),
            ". It therefore proves nothing, and this page is no evidence of protection.",
        )
        blocks.append(Paragraph(failed, kind="warning"))
    else:
        seen = text(
            "Without protection: yes. From an update of one step on one image the attack showed ",
            *_shown(facts, 0),
            ".",
        )
        blocks.append(Paragraph(seen))
        found = text(
            "With differential privacy of the patient the same attack on updates of one image, and of a usual round, "
            "showed ",
            *_shown(facts, 1),
            ". A usual round without protection is shown below; that this attack sees little of it is no protection.",
        )
        blocks.append(Paragraph(found, kind="plain" if private else "warning"))
    return Section(name="answer", title="The answer", blocks=blocks)


def _shown(facts: Facts, number: int) -> Text:
    figures = ("checks", number, "figures")
    return text(facts.number(*figures, "shown", form=counted), " of ", facts.number(*figures, "images", form=counted))


def _pictures(jpeg: bytes) -> Section:
    caption = (
        "Left the true images, then what the attacker sees in each update. Likeness is the correlation of the pixels: "
        "1 for the same picture, 0 for an unrelated one. Place: where the true image stands among those of all other "
        "patients, by likeness to what the attacker sees; place 1 names the patient. An orange frame marks a "
        "reconstruction: place 1, and at most half as far from the truth as the nearest other patient's image. "
        "Brightness and contrast are set to the true image's. "
        "A usual round without protection shows a blend of all its images."
    )
    return Section(
        name="pictures",
        title="What the attacker sees",
        blocks=[Picture(name="reconstruction", caption=caption, jpeg=jpeg)],
    )


def _table(facts: Facts) -> Section:
    def row(arm: str) -> list[Text]:
        at = ("arms", arm)
        shown = text(
            facts.number(*at, "reconstructed", form=counted), " of ", facts.number(*at, "images", form=counted)
        )
        values: list[Text] = [
            (facts.number(*at, name, form=short),) for name in ("correlation", "others", "ssim", "psnr")
        ]
        places: list[Text] = [
            text(facts.number(*at, name, form=counted), " of ", facts.number(*at, "candidates", form=counted))
            for name in ("rank", "named")
        ]
        return [(arm,), (_WHAT[arm],), shown, *values, *places]

    order = [arm for arm in _WHAT if facts.has("arms", arm)]
    table = Table(
        name="arms",
        caption="Each update, the median over its images",
        header=(
            "update",
            "what it is",
            "shown",
            "likeness",
            "nearest other patient",
            "SSIM",
            "PSNR (dB)",
            "place by picture",
            "place by candidates",
        ),
        rows=[row(arm) for arm in order],
        notes=(
            "Nearest other patient: the largest likeness of any other patient's image to the true one; who shows such "
            "an image has seen nothing of this patient.",
            "Place by candidates: the attacker already has the pictures of all candidates, the true one among them, "
            "and asks from whose gradient the update most likely came; guessing gives the middle place.",
        ),
    )
    blocks: list[Block] = [table]
    protected = [arm for arm in order if facts.has("protections", arm)]
    if protected:
        blocks.append(_promises(facts, protected))
    return Section(name="numbers", title="The numbers", blocks=blocks)


def _promises(facts: Facts, arms: list[str]) -> Table:
    def row(arm: str) -> list[Text]:
        at = ("protections", arm)
        names = ("epsilon", "spent", "noise_multiplier", "sampling_rate")
        values: list[Text] = [(facts.number(*at, name, form=short),) for name in names]
        delta: Text = (facts.number(*at, "delta", form=lambda value: f"{value:.1e}"),)
        return [(arm,), *values, delta, (facts.number(*at, "steps", form=counted),)]

    return Table(
        name="promises",
        caption="What protected the patients",
        header=(
            "update",
            "epsilon promised",
            "epsilon of this update",
            "noise multiplier",
            "sampling rate",
            "delta",
            "steps",
        ),
        rows=[row(arm) for arm in arms],
    )


def _attacker(facts: Facts) -> Section:
    given: list[Text] = [
        ("the update, as the bytes of its packet, and the weights that were sent; software and settings are public",),
        ("which joint the image shows, and whether it is eroded",),
        (
            "the settings: plain steps (SGD), no augmentation, a learning rate so small that the network stays as "
            "prepared. A coordinator sets all of them",
        ),
        (
            "the weights, except where they are called ordinary: a coordinator may send any. These make the network "
            "write its image into the update (Fowl et al. 2022, Boenisch et al. 2023 do so for other networks); the "
            "picture is then read out by division, and by a search for an image with those features",
        ),
        (
            "with ordinary weights an image is sought whose gradient points the same way (Zhu et al. 2019;"
            " Geiping et al. 2020), in ",
            facts.number("match_steps", form=counted),
            " steps from noise",
        ),
        ("no picture of any patient, except for the place by candidates: there all of them",),
    ]
    center = text(
        "The center has ",
        facts.number("patients", form=counted),
        " training patients with ",
        facts.number("examples", form=counted),
        " joints. The true images are of different patients, drawn by the seed.",
    )
    return Section(
        name="attacker",
        title="What the attacker was given",
        blocks=[Items(given), Paragraph(center)],
    )


def _limits() -> Section:
    limits: list[Text] = [
        (
            "A picture that shows nothing is no proof that nothing is there: it is what this attack found. The "
            "guarantee is the epsilon, which holds against every attack; these pictures only say what it looks like.",
        ),
        (
            "Ordinary weights and usual rounds are no protection. Their pictures show what this attack misses; "
            "stronger ones separate the images of a round, or search longer.",
        ),
        (
            "Other things than images can leak: that a patient took part (the audit's membership test), and rare "
            "findings. Small epsilons bound these, too.",
        ),
        ("One network (the erosion task's default) and crops of 48 pixels were attacked, on phantoms.",),
    ]
    return Section(name="limits", title="What this page does not show", blocks=[Items(limits)])
