"""The center that is attacked: a phantom's training joints, the patients to be found, and the others."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ramw_fed.config import ErosionConfig
from ramw_fed.data.batches import Rows
from ramw_fed.data.cohort import Cohort
from ramw_fed.data.radiograph import SPLITS
from ramw_fed.errors import PrivacyError
from ramw_fed.privacy.inversion.prepared import CROP_SIZE
from ramw_fed.seeding import derive_seed
from ramw_fed.tasks.erosion import EROSION, ErosionExamples

# Fewer others would make the first place no feat.
_LEAST_OTHERS = 10


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An image that the attacker is after, and those that it must be told from.

    Attributes:
        row: Among the training rows.
        joint: Name.
        image: ``(S, S)`` standardised, as the network sees it.
        identity: ``(joints, S, S)`` the channels that name the joint.
        label: ``(1,)``.
        others: ``(others, S, S)`` the same joint of other patients, of any center and split.
        other_labels: ``(others,)``.
    """

    row: int
    joint: str
    image: Tensor
    identity: Tensor
    label: Tensor
    others: Tensor
    other_labels: Tensor


class Chosen:
    """Some rows of a center's examples."""

    def __init__(self, examples: ErosionExamples, rows: Rows) -> None:
        self.examples, self.rows = examples, rows
        self.patients, self.names = examples.patients[rows], examples.names[rows]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def batch(self, rows: Rows, *, augment_key: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Return (inputs, targets)."""
        return self.examples.batch(self.rows[rows], augment_key=augment_key)


class Scene:
    """One center of a phantom cohort."""

    def __init__(self, cohort: Cohort, config: ErosionConfig, *, seed: int, num_wanted: int) -> None:
        """Choose, by ``seed``, the images that are wanted: of different patients.

        Raises:
            PrivacyError: It is no phantom, or too small for the attack to prove anything.
        """
        if cohort.description.kind != "phantom":
            raise PrivacyError(
                "reconstructions are shown of phantoms only, and this cohort is of patients; leave the cohort away, or "
                "give one that `ramw-fed phantom` wrote"
            )
        if config.crop_size != CROP_SIZE:
            raise PrivacyError(f"erosion.crop-size is {config.crop_size}; the prepared weights are for {CROP_SIZE}")
        # The coordinator sets the augmentation, too: varied images would be shown varied.
        config = replace(config, augmentation="none")
        self.config, self.description = config, cohort.description
        self.center = max(
            cohort.centers, key=lambda name: (len(EROSION.of(cohort.at(name), "train").radiographs), name)
        )
        self.examples = ErosionExamples(cohort.at(self.center), "train", config)
        self._all = [ErosionExamples(cohort, split, config) for split in SPLITS]
        self.wanted = [self._want(row) for row in self._choose(seed, num_wanted)]

    @property
    def num_patients(self) -> int:
        """Patients with a training joint."""
        return len(np.unique(self.examples.patients))

    def _choose(self, seed: int, num_wanted: int) -> list[int]:
        order = np.random.default_rng(derive_seed(seed, "reconstruction")).permutation(len(self.examples))
        _, first = np.unique(self.examples.patients[order], return_index=True)
        chosen = order[np.sort(first)][:num_wanted]
        if len(chosen) < num_wanted:
            raise PrivacyError(
                f"{num_wanted} patients with a scored training joint are wanted, {len(chosen)} are there"
            )
        return [int(row) for row in chosen]

    def _want(self, row: int) -> Wanted:
        inputs, label = self.examples.batch(np.array([row]), augment_key=None)
        joint, patient = self.examples.joints[row], self.examples.patients[row]
        found = []
        for part in self._all:
            is_own = (part.centers == self.center) & (part.patients == patient)
            rows = np.flatnonzero((part.joints == joint) & ~is_own)
            if len(rows):
                found.append(part.batch(rows, augment_key=None))
        others = torch.cat([images for images, _ in found]) if found else torch.zeros(0, *inputs.shape[1:])
        if len(others) < _LEAST_OTHERS:
            raise PrivacyError(
                f"{len(others)} other images of the joint are there; at least {_LEAST_OTHERS} are wanted"
            )
        return Wanted(
            row=row,
            joint=str(joint),
            image=inputs[0, 0],
            identity=inputs[0, 1:],
            label=label,
            others=others[:, 0],
            other_labels=torch.cat([labels for _, labels in found]),
        )
