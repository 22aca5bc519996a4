import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ramw_fed.config import ErosionConfig
from ramw_fed.errors import ConfigError
from ramw_fed.learning.losses import EROSION_LOSSES, ORDINAL, ClassCounts, dice_bce, erosion_logits, erosion_loss

CONFIG = ErosionConfig(loss="logit-adjustment")


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


def test_dice_and_cross_entropy_of_four_pixels_by_hand() -> None:
    # p = 1/2 everywhere, two of four pixels inside: Dice loss 1 - (2*1 + 1) / (2 + 2 + 1) = .4, cross-entropy ln 2.
    logits = torch.zeros(1, 1, 2, 2)
    targets = torch.tensor([[[[1, 1], [0, 0]]]], dtype=torch.uint8)
    assert float(dice_bce(logits, targets)) == pytest.approx(0.4 + math.log(2))


def test_bone_gradient_is_negative_inside_and_positive_outside() -> None:
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    targets = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    slope = gradient(dice_bce(logits, targets), logits)[0, 0]
    assert (slope[0] < 0).all()
    assert (slope[1] > 0).all()


def test_absent_bone_costs_nothing_where_nothing_is_predicted_and_something_where_it_is() -> None:
    nothing = torch.zeros(1, 1, 4, 4)
    assert float(dice_bce(torch.full((1, 1, 4, 4), -40.0), nothing)) == pytest.approx(0, abs=1e-6)
    logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
    # p = 1/2 on 16 pixels: 1 - 1 / (8 + 1), and ln 2.
    value = dice_bce(logits, nothing)
    assert float(value.detach()) == pytest.approx(8 / 9 + math.log(2))
    assert (gradient(value, logits) > 0).all()


def test_absent_bone_does_not_change_what_another_bone_costs() -> None:
    logits = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    targets = (torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    both = dice_bce(
        torch.cat([logits, torch.full_like(logits, -40.0)], dim=1), torch.cat([targets, 0 * targets], dim=1)
    )
    assert float(both) == pytest.approx(float(dice_bce(logits, targets)) / 2, abs=1e-6)


def test_logit_adjustment_adds_the_log_odds_of_the_floored_priors() -> None:
    # 10 of 100 eroded: shift ln(10.5 / 90.5); at z = 0 the loss of a positive is softplus(-shift).
    shift = math.log(10.5 / 90.5)
    loss = erosion_loss(ClassCounts(negatives=90, positives=10), CONFIG)
    assert float(loss(torch.zeros(1, 1), torch.ones(1))) == pytest.approx(math.log1p(math.exp(-shift)))
    assert float(loss(torch.zeros(1, 1), torch.zeros(1))) == pytest.approx(math.log1p(math.exp(shift)))


def test_logit_adjustment_pulls_a_rare_class_harder() -> None:
    loss = erosion_loss(ClassCounts(negatives=90, positives=10), CONFIG)
    logits = torch.zeros(1, 1, requires_grad=True)
    positive = float(gradient(loss(logits, torch.ones(1)), logits))
    negative = float(gradient(loss(logits, torch.zeros(1)), logits))
    # The gradient is sigmoid(z + shift) - y: -90.5/101 and +10.5/101.
    assert positive == pytest.approx(-90.5 / 101)
    assert negative == pytest.approx(10.5 / 101)


@pytest.mark.parametrize("name", EROSION_LOSSES)
@pytest.mark.parametrize(("negatives", "positives"), [(30, 0), (0, 30), (0, 0)])
def test_a_class_that_a_center_lacks_leaves_loss_and_gradient_finite(name: str, negatives: int, positives: int) -> None:
    counts = ClassCounts(negatives=negatives, positives=positives)
    assert counts.log_odds() == pytest.approx(math.log((positives + 0.5) / (negatives + 0.5)))
    logits = torch.tensor([[30.0], [-30.0]])
    logits = (torch.cat([logits, -logits, 0 * logits], dim=1) if name in ORDINAL else logits).requires_grad_()
    value = erosion_loss(counts, ErosionConfig(loss=name))(logits, torch.tensor([0.0, 1.0]))
    assert math.isfinite(float(value.detach()))
    assert gradient(value, logits).isfinite().all()


@pytest.mark.parametrize("name", sorted(set(EROSION_LOSSES) - ORDINAL))
def test_a_step_against_the_gradient_raises_an_eroded_joint_and_lowers_another(name: str) -> None:
    logits = torch.zeros(2, 1, requires_grad=True)
    loss = erosion_loss(ClassCounts(negatives=90, positives=10), ErosionConfig(loss=name))
    eroded, intact = gradient(loss(logits, torch.tensor([1.0, 0.0])), logits).flatten().tolist()
    assert eroded < 0 < intact


@pytest.mark.parametrize(("tau", "shift"), [(0.0, 0.0), (1.0, math.log(10.5 / 90.5)), (2.0, 2 * math.log(10.5 / 90.5))])
def test_tau_multiplies_the_shift(tau: float, shift: float) -> None:
    loss = erosion_loss(ClassCounts(negatives=90, positives=10), ErosionConfig(loss="logit-adjustment", tau=tau))
    assert float(loss(torch.zeros(1, 1), torch.ones(1))) == pytest.approx(math.log1p(math.exp(-shift)))


def test_at_tau_one_logit_adjustment_is_balanced_softmax_by_torch() -> None:
    # Ren et al. 2020, eq. 3: softmax of n_c e^(z_c), here with the same half joint added to n_c.
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(9, 1, generator=generator), torch.randint(0, 2, (9,), generator=generator)
    loss = erosion_loss(ClassCounts(negatives=90, positives=10), CONFIG)
    two = torch.cat([torch.zeros(9, 1), logits], dim=1) + torch.tensor([90.5, 10.5]).log()
    assert float(loss(logits, labels.float())) == pytest.approx(float(functional.cross_entropy(two, labels)))


def test_a_federated_prior_replaces_the_centers_own_and_is_missed_where_nobody_gave_it() -> None:
    own, every = ClassCounts(negatives=5, positives=5), ClassCounts(negatives=900, positives=20)
    for name in ("logit-adjustment", "class-balanced"):
        federated = ErosionConfig(loss=name, prior="federated", intact_joints=900, eroded_joints=20)
        value, wanted, local = (
            float(erosion_loss(counts, config)(torch.zeros(2, 1), torch.tensor([1.0, 0.0])))
            for counts, config in ((own, federated), (every, ErosionConfig(loss=name)), (own, ErosionConfig(loss=name)))
        )
        assert value == wanted
        assert name == "class-balanced" or value != local  # whose two weights sum to 2 under every prior
        with pytest.raises(ConfigError, match=r"erosion\.intact-joints is not set"):
            erosion_loss(own, ErosionConfig(loss=name, prior="federated"))


def test_counts_of_one_class_alone_are_refused() -> None:
    with pytest.raises(ConfigError, match="set both, or none"):
        ErosionConfig(loss="logit-adjustment", prior="federated", eroded_joints=3)


def test_class_balanced_weights_by_hand() -> None:
    # beta .5: effective numbers of 1 and 2 joints are 1 and 1.5; weights 1 : 2/3, which sum to 2: 1.2 and .8.
    loss = erosion_loss(ClassCounts(negatives=2, positives=1), ErosionConfig(loss="class-balanced", beta=0.5))
    assert float(loss(torch.zeros(1, 1), torch.ones(1))) == pytest.approx(1.2 * math.log(2))
    assert float(loss(torch.zeros(1, 1), torch.zeros(1))) == pytest.approx(0.8 * math.log(2))
    # beta 0: every class has the effective number 1.
    plain = erosion_loss(ClassCounts(negatives=2, positives=1), ErosionConfig(loss="class-balanced", beta=0.0))
    assert float(plain(torch.zeros(1, 1), torch.ones(1))) == pytest.approx(math.log(2))


def test_distance_weighted_cross_entropy_of_three_grades_by_hand() -> None:
    # p = (1/2, 1/4, 1/4). True grade 0, power 2: -ln(3/4) - 4 ln(3/4). True grade 1: -ln(1/2) - ln(3/4).
    logits = torch.tensor([[math.log(2), 0.0, 0.0]])
    loss = erosion_loss(ClassCounts(negatives=1, positives=1), ErosionConfig(loss="distance-weighted"))
    assert float(loss(logits, torch.zeros(1))) == pytest.approx(5 * math.log(4 / 3))
    assert float(loss(logits, torch.ones(1))) == pytest.approx(math.log(2) + math.log(4 / 3))
    flat = erosion_loss(
        ClassCounts(negatives=1, positives=1), ErosionConfig(loss="distance-weighted", distance_power=0.0)
    )
    assert float(flat(logits, torch.zeros(1))) == pytest.approx(2 * math.log(4 / 3))


def test_distance_weighted_gradient_pushes_a_far_grade_down_harder_than_a_near_one() -> None:
    logits = torch.zeros(1, 6, requires_grad=True)
    loss = erosion_loss(ClassCounts(negatives=1, positives=1), ErosionConfig(loss="distance-weighted"))
    # At p = 1/6 the slope of grade j is (w_j - sum of the other w / 5) / 6, with w = 1, 0, 1, 4, 9, 16.
    slopes = gradient(loss(logits, torch.tensor([1.0])), logits)[0]
    wanted = [(weight - (31 - weight) / 5) / 6 for weight in (1, 0, 1, 4, 9, 16)]
    torch.testing.assert_close(slopes, torch.tensor(wanted))


def test_log_odds_of_an_erosion_from_logits_of_grades() -> None:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    eroded = 1 - logits.softmax(dim=1)[:, 0]
    torch.testing.assert_close(erosion_logits(logits).sigmoid(), eroded)
    single = torch.randn(4, 1)
    assert torch.equal(erosion_logits(single), single.flatten())


def test_minimum_under_logit_adjustment_is_the_balanced_posterior() -> None:
    # A feature that half of the positives and a tenth of the negatives show: balanced odds 5, at any prevalence.
    loss = erosion_loss(ClassCounts(negatives=10_000, positives=100), CONFIG)
    labels = torch.cat([torch.ones(50), torch.zeros(1000)])
    z = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=50)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(z.expand(len(labels), 1), labels)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)
    assert float(z.detach().exp()) == pytest.approx(5.0, rel=0.02)


def test_weighted_cross_entropy_equals_torchs_with_two_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(9, 1, generator=generator), torch.randint(0, 2, (9,), generator=generator)
    loss = erosion_loss(ClassCounts(negatives=1, positives=1), ErosionConfig(loss="weighted"))
    two = torch.cat([torch.zeros(9, 1), logits], dim=1)
    wanted = functional.cross_entropy(two, labels, weight=torch.tensor([1.0, 6.0]))
    assert float(loss(logits, labels.float())) == pytest.approx(float(wanted))


def test_focal_loss_by_hand_and_without_exponent_the_plain_one() -> None:
    logits, labels = torch.tensor([[math.log(3)]]), torch.ones(1)  # p = 3/4: (1/4)^2 * -ln(3/4)
    counts = ClassCounts(negatives=1, positives=1)
    focal = erosion_loss(counts, ErosionConfig(loss="focal"))
    assert float(focal(logits, labels)) == pytest.approx(math.log(4 / 3) / 16)
    plain = erosion_loss(counts, ErosionConfig(loss="cross-entropy"))
    unfocused = erosion_loss(counts, ErosionConfig(loss="focal", focal_gamma=0.0))
    assert float(unfocused(logits, labels)) == pytest.approx(float(plain(logits, labels)))
    assert float(plain(logits, labels)) == pytest.approx(math.log(4 / 3))


def test_focal_loss_has_a_finite_gradient_where_the_network_is_certain() -> None:
    logits = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    loss = erosion_loss(ClassCounts(negatives=1, positives=1), ErosionConfig(loss="focal", focal_gamma=0.5))
    assert gradient(loss(logits, torch.tensor([1.0, 0.0])), logits).isfinite().all()


def test_every_choice_of_the_knob_is_in_the_table_which_cannot_be_changed() -> None:
    choices = ErosionConfig.names()["loss"].metadata["choices"]
    assert set(choices) == set(EROSION_LOSSES)
    with pytest.raises(TypeError):
        EROSION_LOSSES["mine"] = EROSION_LOSSES["focal"]  # type: ignore[index]


def test_unknown_loss_is_refused_by_the_configuration() -> None:
    with pytest.raises(ConfigError, match="logit-adjustment"):
        ErosionConfig(loss="hinge")
