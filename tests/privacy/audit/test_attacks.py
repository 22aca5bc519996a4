"""The attack on members: its patients, and that it finds members where nothing, or a broken build, protects them."""

import numpy as np
import pytest
import torch

from ramw_fed.config import SegmentationConfig
from ramw_fed.learning.losses import dice_bce
from ramw_fed.privacy.audit.attacks import Plan, Victims, check_control, check_membership, losses
from ramw_fed.privacy.audit.mechanism import Mechanism
from ramw_fed.privacy.audit.phantoms import draw_patients, gathered
from ramw_fed.privacy.randomness import secure
from ramw_fed.privacy.sgd import PatientSteps

CONFIG = SegmentationConfig(image_size=64, norm="group", augmentation="none")


def test_each_patient_is_drawn_once_with_an_image_and_masks() -> None:
    wrists = gathered(list(draw_patients(6, CONFIG, seed=1)), CONFIG)
    assert len(wrists) == len(np.unique(wrists.patients)) == 6
    images, masks = wrists.batch(np.array([4, 1]), augment_key=(0, 0))
    assert images.shape == (2, 1, 64, 64)
    assert masks.shape == (2, 14, 64, 64)
    assert abs(float(images.mean())) < 1e-5
    assert masks.amax(dim=(1, 2, 3)).tolist() == [1, 1]
    assert wrists.part(4, 6).patients.tolist() == wrists.patients[4:].tolist()


def test_the_loss_of_a_patient_is_that_of_training_on_this_image_alone() -> None:
    wrists = gathered(list(draw_patients(6, CONFIG, seed=1)), CONFIG)
    network = torch.nn.Conv2d(1, 14, 3, padding=1)
    found = losses(network, wrists)
    for row in range(6):
        image, masks = wrists.batch(np.array([row]), augment_key=None)
        with torch.no_grad():
            assert found[row] == pytest.approx(float(dice_bce(network(image), masks)), rel=1e-5)


@pytest.fixture(scope="module")
def victims() -> Victims:
    return Victims(Plan(members=60, others=400, epochs=40))


@pytest.mark.slow
def test_without_privacy_members_are_found(victims: Victims) -> None:
    check = check_control(victims)
    assert check.holds
    assert max(one["low"] for one in check.figures.values()) > 0.1


@pytest.mark.slow
def test_a_network_that_learned_nothing_is_no_control(victims: Victims, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Victims, "trained", lambda self, *_: torch.nn.Conv2d(1, 14, 3, padding=1))
    assert not check_control(victims).holds


@pytest.mark.slow
def test_under_epsilon_one_no_more_members_are_found_than_it_lets(victims: Victims) -> None:
    check = check_membership(victims, 1.0, 1e-3)
    assert check.holds
    assert all(one["most"] < 0.2 for one in check.figures.values())


@pytest.mark.slow
def test_a_build_that_neither_clips_nor_adds_noise_is_found_out_by_its_members(victims: Victims) -> None:
    def unprotected(patients: np.ndarray, mechanism: Mechanism) -> PatientSteps:
        return PatientSteps(
            patients,
            sampling_rate=mechanism.sampling_rate,
            steps=mechanism.steps,
            noise_multiplier=0.0,
            clip_norm=1e9,
            randomness=secure(),
            rows_at_once=32,
        )

    check = check_membership(victims, 1.0, 1e-3, protect=unprotected)
    assert not check.holds
