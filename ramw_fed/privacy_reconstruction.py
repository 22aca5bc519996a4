"""Attack updates as they would leave a center, and lay out for a data protection officer what is seen in them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
from torch import Tensor

from ramw_fed import api
from ramw_fed.config import ErosionConfig, PhantomConfig
from ramw_fed.data.reading import read_cohort
from ramw_fed.errors import PrivacyError
from ramw_fed.federation.packets import Packet, pack, unpack
from ramw_fed.privacy.audit.checks import Check
from ramw_fed.privacy.inversion.arms import ARMS, Arm, Attack, Crossing, Finding, summary
from ramw_fed.privacy.inversion.reading import Weights
from ramw_fed.privacy.inversion.scene import Scene
from ramw_fed.privacy.inversion.verdict import checks
from ramw_fed.progress import Watch, nobody
from ramw_fed.report.overlays import Image, write_png
from ramw_fed.report.page import render
from ramw_fed.report.reconstruction import reconstruction_document
from ramw_fed.report.reconstruction_pictures import sheet
from ramw_fed.run_folder import write_atomically

JSON, PNG, HTML = "reconstruction.json", "reconstruction.png", "reconstruction.html"
_PHANTOM = PhantomConfig(patients=40, centers=1, size=300, seed=3, prevalence=0.2)
_KNOBS = ErosionConfig(norm="group", patients_per_step=8, clip_norm=1.0)
_QUALITY = 92


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What was seen.

    Attributes:
        findings: Of every arm and image.
        tree: As ``reconstruction.json`` holds it.
        picture: All images beside each other.
        checks: The control without protection, and the promise.
    """

    findings: Sequence[Finding]
    checks: Sequence[Check]
    tree: Mapping[str, Any]
    picture: Image

    @property
    def holds(self) -> bool:
        """Whether the attack succeeds without protection, and fails under it."""
        return all(check.holds for check in self.checks)


def through_bytes(weights: Weights) -> Mapping[str, Tensor]:
    """Return the tensors of an update after they were packed as they leave a center, and read again."""
    return unpack(pack(Packet(header={}, tensors=weights))).tensors


def reconstruct(
    out: Path | None = None,
    *,
    cohort: Path | None = None,
    seed: int = 0,
    num_wanted: int = 3,
    match_steps: int = 400,
    arms: Sequence[Arm] = ARMS,
    crossing: Crossing = through_bytes,
    watch: Watch = nobody,
) -> Reconstruction:
    """Attack updates of the erosion network at one center of a phantom cohort.

    Args:
        out: Folder for ``reconstruction.json``, ``.png`` and ``.html``; None to write nothing.
        cohort: Folder of a phantom cohort; None for one of 40 patients at one center.
        seed: Decides images, weights, and the noise of these trainings, which protects nobody.
        num_wanted: Images that are sought, of different patients.
        match_steps: Of the search where the weights are ordinary.
        arms: Kinds of update.
        crossing: What becomes of an update on its way.
        watch: Told how far it is.

    Raises:
        PrivacyError: The cohort is of patients, or too small.
    """
    if num_wanted < 1:
        raise PrivacyError(f"{num_wanted} images are to be sought; at least 1 is wanted")
    read = read_cohort(cohort or api.phantom_folder(_PHANTOM, watch=watch))
    scene = Scene(read, _KNOBS, seed=seed, num_wanted=num_wanted)
    attack = Attack(scene, crossing, seed=seed, match_steps=match_steps)
    findings = attack.run(arms, watch)
    verdict = checks(findings, arms)
    protections = {arm.name: attack.protection(arm) for arm in arms}
    tree = {
        "arms": summary(findings),
        "checks": [check.as_dict() for check in verdict],
        "cohort": read.sha256,
        "examples": len(scene.examples),
        "findings": [one.as_dict() for one in findings],
        "match_steps": match_steps,
        "patients": scene.num_patients,
        "protections": {name: asdict(found) for name, found in protections.items() if found is not None},
        "seed": seed,
    }
    found = Reconstruction(findings=findings, checks=verdict, tree=tree, picture=sheet(scene.wanted, findings, arms))
    if out is not None:
        _write(found, out)
    return found


def _write(found: Reconstruction, out: Path) -> None:
    written = json.dumps(found.tree, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_png(out / PNG, found.picture)
    write_atomically(out / JSON, written)
    _, jpeg = cv2.imencode(".jpg", found.picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    sources = {
        JSON: hashlib.sha256(written.encode()).hexdigest(),
        PNG: hashlib.sha256((out / PNG).read_bytes()).hexdigest(),
    }
    write_atomically(out / HTML, render(reconstruction_document(found.tree, jpeg.tobytes(), sources)))
