import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from ramw_fed.config import ErosionConfig
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import PrivacyError
from ramw_fed.learning.models import erosion_network
from ramw_fed.privacy.inversion import reading
from ramw_fed.privacy.inversion.arms import CONTROL, Arm, Attack, Finding
from ramw_fed.privacy.inversion.likeness import Likeness, as_grey, correlation, likeness, psnr, ssim
from ramw_fed.privacy.inversion.prepared import READ, prepared_weights
from ramw_fed.privacy.inversion.scene import Scene
from ramw_fed.privacy.inversion.verdict import checks
from ramw_fed.privacy_reconstruction import HTML, JSON, PNG, reconstruct, through_bytes
from ramw_fed.report.page import BLANK_SEAL, seal_of
from ramw_fed.report.parsing import read_page

KNOBS = ErosionConfig(norm="group", patients_per_step=8, clip_norm=1.0)
PROTECTED = Arm(name="one image, epsilon 8", is_round=False, epsilon=8.0)
ROUND = Arm(name="usual round, epsilon 8", is_round=True, epsilon=8.0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def finding(arm: Arm, *, own: float, others: float, rank: int = 1) -> Finding:
    alike = Likeness(correlation=own, psnr=20.0, ssim=0.5, others=others, rank=rank, candidates=30)
    return Finding(arm=arm.name, wanted=0, picture=torch.zeros(2, 2), likeness=alike, named=rank)


@pytest.fixture(scope="module")
def scene(phantom_cohort: Cohort) -> Scene:
    return Scene(phantom_cohort, KNOBS, seed=0, num_wanted=1)


def test_psnr_of_unrelated_stripes_by_hand() -> None:
    across, down = torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    # Errors 0, 2, 2, 0: mean square 2; the range is 2: 10 log10(4 / 2).
    assert psnr(down, across) == pytest.approx(10 * math.log10(2))
    assert correlation(down, across) == 0


def test_brightness_and_contrast_do_not_count() -> None:
    image = noise(16, 16)
    assert psnr(3 * image - 7, image) > 100
    assert ssim(3 * image - 7, image) == pytest.approx(1)
    assert correlation(3 * image - 7, image) == pytest.approx(1)
    assert (as_grey(3 * image - 7, image) == as_grey(image, image)).all()


def test_a_constant_picture_is_like_nothing() -> None:
    image = noise(16, 16)
    assert correlation(torch.ones(16, 16), image) == 0
    assert math.isfinite(psnr(torch.ones(16, 16), image))


def test_correlation_equals_numpys() -> None:
    one, other = noise(9, 9), noise(9, 9, seed=1)
    expected = np.corrcoef(one.numpy().ravel(), other.numpy().ravel())[0, 1]
    assert correlation(one, other) == pytest.approx(expected, abs=1e-6)


def test_ssim_equals_torchmetrics() -> None:
    truth = noise(24, 24).cumsum(0)
    found = truth + 2 * noise(24, 24, seed=1)
    matched = (found - found.mean()) * (truth.std() / found.std()) + truth.mean()
    peak = float(truth.max() - truth.min())
    _, whole = structural_similarity_index_measure(
        matched[None, None].double(), truth[None, None].double(), data_range=peak, return_full_image=True
    )
    # It mirrors the image at its edges; only windows that lie in the image are ours.
    assert ssim(found, truth) == pytest.approx(float(whole[..., 5:-5, 5:-5].mean()), abs=1e-5)


def test_a_reconstruction_names_its_patient_and_is_nearer_than_any_other() -> None:
    truth = noise(12, 12)
    others = [truth + noise(12, 12, seed=seed) for seed in (1, 2)]
    assert likeness(truth + 0.1 * noise(12, 12, seed=3), truth, others).is_reconstruction
    assert not likeness(others[0], truth, others).is_reconstruction  # it names another
    far = likeness(truth + 0.9 * noise(12, 12, seed=3), truth, others)
    assert far.rank == 1
    assert not far.is_reconstruction  # first, and no nearer than others are


def test_a_control_that_fails_fails_the_promise_too() -> None:
    failed = [finding(CONTROL, own=0.5, others=0.9), finding(PROTECTED, own=0.1, others=0.9)]
    assert [check.holds for check in checks(failed, (CONTROL, PROTECTED))] == [False, False]
    held = [finding(CONTROL, own=0.99, others=0.9), finding(PROTECTED, own=0.1, others=0.9)]
    assert [check.holds for check in checks(held, (CONTROL, PROTECTED))] == [True, True]
    leaked = [finding(CONTROL, own=0.99, others=0.9), finding(PROTECTED, own=0.95, others=0.9)]
    assert [check.holds for check in checks(leaked, (CONTROL, PROTECTED))] == [True, False]
    assert [check.holds for check in checks(held[:1], (CONTROL, PROTECTED))] == [True, False]
    assert [check.holds for check in checks([], (CONTROL, PROTECTED))] == [False, False]


def test_only_phantoms_are_shown(phantom_cohort: Cohort) -> None:
    real = replace(phantom_cohort, description=replace(phantom_cohort.description, kind="real"))
    with pytest.raises(PrivacyError, match="phantoms only"):
        Scene(real, KNOBS, seed=0, num_wanted=1)


def test_too_few_patients_prove_nothing(phantom_cohort: Cohort) -> None:
    with pytest.raises(PrivacyError, match="50 patients"):
        Scene(phantom_cohort, KNOBS, seed=0, num_wanted=50)
    two = sorted({one.patient for one in phantom_cohort.radiographs})[:3]
    few = phantom_cohort.keep(one for one in phantom_cohort.radiographs if one.patient in two)
    with pytest.raises(PrivacyError, match="other images"):
        Scene(few, KNOBS, seed=0, num_wanted=1)


def test_candidates_are_the_same_joint_of_other_patients(scene: Scene) -> None:
    (wanted,) = scene.wanted
    assert len(wanted.others) >= 10
    assert max(correlation(wanted.image, other) for other in wanted.others) < 0.9999
    assert wanted.identity.mean(dim=(1, 2)).sum() == 1


def test_only_the_default_network_can_be_prepared() -> None:
    with pytest.raises(PrivacyError, match="default erosion network"):
        prepared_weights(nn.Sequential(nn.Conv2d(1, 1, 3)), loudness=1.0)


def test_preparing_leaves_the_network_as_it_was() -> None:
    network = erosion_network(2, KNOBS)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    prepared = prepared_weights(network, loudness=1.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not torch.equal(prepared[READ], before[READ])


def test_an_update_of_prepared_weights_lists_the_features(scene: Scene) -> None:
    (wanted,) = scene.wanted
    attack = Attack(scene, through_bytes, seed=0, match_steps=1)
    before, after = attack.update(CONTROL, wanted)
    attack.network.load_state_dict(dict(before))
    # The sensitivities of any image will do: these are of noise.
    other = reading._sensitivities(attack.network, noise(1, 48, 48), wanted.identity, attack.loss)
    found = reading._inverse(other) @ (before[READ] - after[READ]).flatten(1).double()
    features = reading._features_of(attack.network, wanted.image[None], wanted.identity).double()
    factor = (found * features).sum() / found.square().sum()
    assert (factor * found - features).norm() < 0.01 * (features - features.mean()).norm()


def test_an_update_is_attacked_as_its_bytes(scene: Scene) -> None:
    seen: list[Mapping[str, Tensor]] = []

    def crossing(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        seen.append(weights)
        return through_bytes(weights)

    _, after = Attack(scene, crossing, seed=0, match_steps=1).update(CONTROL, scene.wanted[0])
    assert seen[0] is not after
    assert all(torch.equal(seen[0][name], after[name]) for name in after)


@pytest.mark.slow
def test_a_promise_of_a_round_is_of_the_whole_run(scene: Scene) -> None:
    attack = Attack(scene, through_bytes, seed=0, match_steps=1)
    assert attack.protection(CONTROL) is None
    one, whole = attack.protection(PROTECTED), attack.protection(ROUND)
    assert one is not None
    assert whole is not None
    assert (one.steps, one.sampling_rate) == (1, 1.0)
    assert 7.9 < one.spent <= 8
    assert whole.spent < 8  # the other rounds spend the rest


def test_a_gradient_is_matched_better_than_by_chance(scene: Scene) -> None:
    (wanted,) = scene.wanted
    attack = Attack(scene, through_bytes, seed=0, match_steps=8)
    arm = Arm(name="ordinary", is_round=False, epsilon=None, is_prepared=False)
    before, after = attack.update(arm, wanted)
    attack.network.load_state_dict(dict(before))
    gradient = [before[name] - after[name] for name, _ in attack.network.named_parameters()]

    def distance(steps: int) -> float:
        image = reading.match_gradient(
            attack.network, gradient, wanted.identity, wanted.label, attack.loss, steps=steps, seed=1
        )
        value = attack.loss(attack.network(torch.cat([image[None], wanted.identity])[None]), wanted.label)
        own = torch.autograd.grad(value, list(attack.network.parameters()))
        flat, target = (torch.cat([one.flatten() for one in many]) for many in (own, gradient))
        return 1 - float(flat @ target / (flat.norm() * target.norm()))

    assert distance(8) < distance(0)


@pytest.mark.slow
def test_what_leaves_shows_the_image_without_protection_and_not_under_it(phantom_root: Path, tmp_path: Path) -> None:
    arms = (CONTROL, ROUND, PROTECTED)
    found = reconstruct(tmp_path, cohort=phantom_root, num_wanted=2, arms=arms)
    assert found.holds
    by_arm: dict[str, list[Finding]] = {}
    for one in found.findings:
        by_arm.setdefault(one.arm, []).append(one)
    least = min(one.likeness.correlation for one in by_arm[CONTROL.name])
    assert all(one.likeness.correlation < least - 0.3 for arm in arms[1:] for one in by_arm[arm.name])
    assert all(one.named == 1 for one in by_arm[CONTROL.name])
    tree = json.loads((tmp_path / JSON).read_text())
    text = (tmp_path / HTML).read_text()
    page = read_page(text)
    assert page.kind == "reconstruction"
    assert seal_of(text) not in (None, BLANK_SEAL)
    assert set(page.sections) == {"answer", "pictures", "numbers", "attacker", "limits", "sources"}
    numbers = {path: value for section in page.sections.values() for path, value, _ in section.numbers}
    assert float(numbers["/arms/one image/correlation"]) == tree["arms"]["one image"]["correlation"]
    assert (tmp_path / PNG).read_bytes()[1:4] == b"PNG"


@pytest.mark.slow
def test_an_attack_on_random_bytes_proves_nothing(phantom_root: Path, tmp_path: Path) -> None:
    def lost(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: tensor + 1e-7 * noise(*tensor.shape, seed=1) for name, tensor in weights.items()}

    found = reconstruct(tmp_path, cohort=phantom_root, num_wanted=1, arms=(CONTROL, PROTECTED), crossing=lost)
    assert [check.holds for check in found.checks] == [False, False]
    assert "proves nothing" in (tmp_path / HTML).read_text()


@pytest.mark.slow
def test_equal_seeds_give_equal_reconstructions(phantom_root: Path) -> None:
    first, again = (reconstruct(cohort=phantom_root, num_wanted=1, arms=(CONTROL, PROTECTED)) for _ in range(2))
    assert first.tree == again.tree
    assert (first.picture == again.picture).all()
