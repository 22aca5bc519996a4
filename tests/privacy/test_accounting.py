"""Epsilon against tables of published tests, against the libraries' own accountants, and against the exact Gaussian.

A comment names the row of the project's table of oracles. RDP and PRV values there were computed with opacus 1.6.0 and
dp-accounting 0.6.0; "exact" is the closed form of Balle and Wang 2018 (arXiv:1805.06530, theorem 8).
"""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.privacy_accountant import NeighboringRelation
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import PRVAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from ramw_fed.errors import BudgetError, PrivacyError
from ramw_fed.privacy import accounting
from ramw_fed.privacy.accountants import merged, pld_epsilon, prv_epsilon, rdp_epsilon
from ramw_fed.privacy.accounting import Epsilons, claimed_epsilon, epsilons, solve_noise
from ramw_fed.privacy.event import Event


def event(rate: float, noise: float, steps: int) -> Event:
    return Event(sampling_rate=rate, noise_multiplier=noise, steps=steps)


def exact(noise: float, steps: int, delta: float) -> float:
    """Epsilon of a Gaussian with mean sqrt(steps) / noise."""
    mean = math.sqrt(steps) / noise

    def excess(epsilon: float) -> float:
        tail = norm.logcdf(-epsilon / mean - mean / 2) + epsilon
        return float(norm.cdf(-epsilon / mean + mean / 2) - math.exp(tail)) - delta

    return float(brentq(excess, 0, 10_000))


PUBLISHED = [
    # row, rate, noise, steps, delta, RDP, its tolerance
    ("4.1", 0.01, 4, 10_000, 1e-5, 1.0355, 1e-3),
    ("4.2", 0.01, 4, 40_000, 1e-5, 2.2097, 1e-3),
    ("4.3", 0.1 * 100 / 600, 4, 3840, 9e-6, 1.08286, 1e-3),
    ("4.4", 0.1 * 100 / 600, 3, 1728, 9e-7, 1.10913, 1e-3),
    ("4.5", 0.1 * 100 / 600, 2, 324, 1e-11, 1.16910, 1e-3),
    ("4.6", 1e-3, 1, 1, 1e5**-1.1, 0.6973, 1e-3),
    ("4.6", 1e-3, 1, 100, 1e5**-1.1, 0.7246, 1e-3),
    ("4.6", 1e-3, 1, 1000, 1e5**-1.1, 0.7738, 1e-3),
    ("4.6", 1e-3, 1, 10_000, 1e5**-1.1, 0.8836, 1e-3),
    ("4.7", 1e-3, 1, 1, 1e6**-1.1, 0.8922, 1e-3),
    ("4.7", 1e-3, 1, 100, 1e6**-1.1, 0.9194, 1e-3),
    ("4.7", 1e-3, 1, 1000, 1e6**-1.1, 0.9848, 1e-3),
    ("4.7", 1e-3, 1, 10_000, 1e6**-1.1, 1.0947, 1e-3),
    ("4.8", 1e-2, 1, 1, 1e6**-1.1, 1.3656, 1e-3),
    ("4.8", 1e-2, 1, 100, 1e6**-1.1, 1.6823, 1e-3),
    ("4.8", 1e-2, 1, 1000, 1e6**-1.1, 2.6341, 1e-3),
    ("4.8", 1e-2, 1, 10_000, 1e6**-1.1, 7.8076, 1e-3),
    ("4.9", 1e-3, 3, 1, 1e6**-1.1, 0.1623, 1e-3),
    ("4.9", 1e-3, 3, 100, 1e6**-1.1, 0.1627, 1e-3),
    ("4.9", 1e-3, 3, 1000, 1e6**-1.1, 0.1660, 1e-3),
    ("4.9", 1e-3, 3, 10_000, 1e6**-1.1, 0.1996, 1e-3),
    ("4.11", 0.1, 1, 10, 1e-3, 2.1102, 1e-3),
    ("4.11", 0.1, 2, 10, 1e-3, 0.5618, 1e-3),
    ("4.12", 0.1, 1, 100, 1e-3, 5.6405, 1e-3),
    ("4.12", 0.1, 2, 100, 1e-3, 1.7990, 1e-3),
    ("4.13", 0.1, 1, 500, 1e-3, 14.0399, 1e-3),
    ("4.13", 0.1, 2, 500, 1e-3, 4.5086, 1e-3),
    ("4.14", 1.0, 1, 1, 1e-5, 4.7285, 1e-3),
    ("4.14", 1.0, 1, 10, 1e-5, 19.0536, 1e-3),
    ("4.14", 1.0, 1, 50, 1e-5, 57.3017, 1e-3),
    ("4.14", 1.0, 1, 100, 1e-5, 96.1163, 1e-3),
    ("4.15", 1.0, 2, 1, 1e-5, 2.1657, 1e-3),
    ("4.15", 1.0, 2, 10, 1e-5, 8.0794, 1e-3),
    ("4.15", 1.0, 2, 50, 1e-5, 22.0199, 1e-3),
    ("4.15", 1.0, 2, 100, 1e-5, 35.0818, 1e-3),
    ("4.16", 1.0, 4, 1, 1e-5, 1.0126, 1e-3),
    ("4.16", 1.0, 4, 10, 1e-5, 3.6171, 1e-3),
    ("4.16", 1.0, 4, 50, 1e-5, 9.2350, 1e-3),
    ("4.16", 1.0, 4, 100, 1e-5, 14.1322, 1e-3),
    ("4.17", 1.0, 8, 1, 1e-5, 0.4776, 1e-3),
    ("4.17", 1.0, 8, 10, 1e-5, 1.6712, 1e-3),
    ("4.17", 1.0, 8, 50, 1e-5, 4.1057, 1e-3),
    ("4.17", 1.0, 8, 100, 1e-5, 6.1228, 1e-3),
    ("4.24", 1.0, 3.2, 50, 1e-2, 7.95, 0.01),
]


@pytest.mark.parametrize(("row", "rate", "noise", "steps", "delta", "wanted", "tolerance"), PUBLISHED)
def test_rdp_gives_the_published_values(
    row: str, rate: float, noise: float, steps: int, delta: float, wanted: float, tolerance: float
) -> None:
    assert rdp_epsilon([event(rate, noise, steps)], delta) == pytest.approx(wanted, abs=tolerance), row


PRV = [
    ("4.1", 0.01, 4, 10_000, 1e-5, 0.9570),
    ("4.2", 0.01, 4, 40_000, 1e-5, 2.0432),
    ("4.3", 0.1 * 100 / 600, 4, 3840, 9e-6, 1.0007),
    ("4.4", 0.1 * 100 / 600, 3, 1728, 9e-7, 1.0372),
    ("4.5", 0.1 * 100 / 600, 2, 324, 1e-11, 1.1102),
    ("4.8", 1e-2, 1, 1, 1e6**-1.1, 0.4979),
    ("4.8", 1e-2, 1, 100, 1e6**-1.1, 1.1253),
    ("4.8", 1e-2, 1, 1000, 1e6**-1.1, 2.3075),
    ("4.8", 1e-2, 1, 10_000, 1e6**-1.1, 7.3205),
    ("4.12", 0.1, 1, 100, 1e-3, 4.7949),
    ("4.12", 0.1, 2, 100, 1e-3, 1.5541),
    ("4.13", 0.1, 1, 500, 1e-3, 12.4712),
    ("4.13", 0.1, 2, 500, 1e-3, 3.9907),
]


@pytest.mark.parametrize(("row", "rate", "noise", "steps", "delta", "wanted"), PRV)
def test_prv_and_pld_give_the_published_values(
    row: str, rate: float, noise: float, steps: int, delta: float, wanted: float
) -> None:
    found = epsilons([event(rate, noise, steps)], delta)
    assert found.prv == pytest.approx(wanted, abs=1e-3), row
    # The published PRV values are Opacus' upper bounds: its estimate and .01.
    assert found.pld == pytest.approx(wanted - 0.01, abs=2e-3), row
    assert found.claimed == found.pld < found.prv < found.rdp


@pytest.mark.parametrize(
    ("row", "noise", "steps", "wanted"),
    [
        ("4.14", 1, 1, 4.37718),
        ("4.14", 1, 10, 17.85659),
        ("4.15", 2, 1, 1.99309),
        ("4.15", 2, 10, 7.51128),
        ("4.16", 4, 50, 8.59587),
        ("4.17", 8, 50, 3.79654),
        ("4.17", 8, 100, 5.67959),
    ],
)
def test_whole_center_is_exact_and_below_rdp(row: str, noise: float, steps: int, wanted: float) -> None:
    found = epsilons([event(1.0, noise, steps)], 1e-5)
    assert exact(noise, steps, 1e-5) == pytest.approx(wanted, abs=1e-5)
    # 4.18: exact <= reported <= RDP
    assert wanted - 1e-5 <= found.pld <= wanted + 1e-3
    assert wanted <= found.prv <= wanted + 0.011
    assert found.prv < found.rdp


@pytest.mark.parametrize(
    ("size", "noise", "steps", "wanted"),
    [
        (2231, 0.669, 4000, 5.0060),
        (513, 0.513, 1500, 4.9863),
        (2197, 0.659, 3000, 4.9979),
        (510, 0.510, 1200, 4.9816),
        (13958, 1.396, 1500, 4.9991),
    ],
)
def test_dp_accounting_knows_fixed_size_samples_which_we_do_not_draw(
    size: int, noise: float, steps: int, wanted: float
) -> None:
    # 4.10: an oracle of the library alone, because all sampling here is Poisson's.
    accountant = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    sampled = dp_event.SampledWithoutReplacementDpEvent(1_000_000, size, dp_event.GaussianDpEvent(noise))
    accountant.compose(sampled, steps)
    assert accountant.get_epsilon(1e6**-1.1) == pytest.approx(wanted, abs=1e-3)


def test_segments_cost_what_they_cost_together() -> None:
    # 4.19
    delta = 1e9**-1.1
    assert rdp_epsilon([event(0.2, 1, 10_000)] * 3, delta) == pytest.approx(1098.2943, abs=0.01)
    assert rdp_epsilon([event(0.2, 1, 30_000)], delta) == pytest.approx(1098.2943, abs=0.01)
    mixed = [event(0.2, noise, 10_000) for noise in (1, 1.2, 1.4)]
    assert rdp_epsilon(mixed, delta) == pytest.approx(794.533, abs=0.01)


def test_accountants_hold_where_epsilon_says_nothing_any_more() -> None:
    # exp(709) is the largest float64; the exact Gaussian is the closed form
    found = epsilons([event(1.0, 0.5, 500)], 1e-2)
    assert 1000 < exact(0.5, 500, 1e-2) == pytest.approx(found.pld, rel=2e-4)
    assert found.pld == pytest.approx(found.prv, rel=2e-3)
    sampled = epsilons([event(0.5, 0.5, 1000), event(1.0, 1.0, 10)], 1e-2)
    assert 700 < sampled.pld == pytest.approx(sampled.prv, rel=2e-3)
    assert sampled.prv < sampled.rdp


def test_two_tasks_and_a_whole_center_release_compose_as_dp_accounting_composes_them() -> None:
    events = [event(0.12, 1.2, 160), event(0.2, 1.5, 40), event(1.0, 8.0, 2)]
    accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, value_discretization_interval=1e-3)
    for one in events:
        gaussian = dp_event.GaussianDpEvent(one.noise_multiplier)
        accountant.compose(dp_event.PoissonSampledDpEvent(one.sampling_rate, gaussian), one.steps)
    found = epsilons(events, 1e-3)
    assert found.pld == pytest.approx(accountant.get_epsilon(1e-3), abs=1e-3)
    assert found.pld < found.prv < found.rdp


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), [(0.1, 1, 100, 1e-3), (8 / 65, 1.06, 160, 1 / 650)])
def test_prv_is_opacus_own_where_opacus_can(rate: float, noise: float, steps: int, delta: float) -> None:
    opacus = PRVAccountant()
    opacus.history = [(noise, rate, steps), (2.0, 0.2, 10)]
    ours = prv_epsilon([event(rate, noise, steps), event(0.2, 2.0, 10)], delta, error=0.01)
    assert ours == pytest.approx(opacus.get_epsilon(delta), abs=1e-6)


def test_more_steps_and_patients_cost_more_and_noise_less() -> None:
    # 4.20
    def found(rate: float = 0.1, noise: float = 1.0, steps: int = 50) -> tuple[float, float]:
        events = [event(rate, noise, steps)]
        return claimed_epsilon(events, 1e-3), rdp_epsilon(events, 1e-3)

    def rises(pairs: Sequence[tuple[float, float]]) -> bool:
        return all(a < b for first, second in pairwise(pairs) for a, b in zip(first, second, strict=True))

    assert rises([found(steps=steps) for steps in (1, 50, 51, 200)])
    assert rises([found(rate=rate) for rate in (0.1, 0.11, 1.0)])
    assert rises([found(noise=noise) for noise in (4.0, 1.1, 1.0)])


def test_nothing_costs_nothing() -> None:
    assert epsilons([], 1e-3) == Epsilons(0, 0, 0)
    assert epsilons([event(0.1, 1, 0), event(1.0, 1, 0)], 1e-3) == Epsilons(0, 0, 0)
    assert claimed_epsilon([], 1e-3) == 0


def test_three_rounds_are_not_three_times_the_first() -> None:
    # 4.21, RDP: an engine renewed each round would say 2.357 three times
    rounds = [event(1 / 8, 1.0, 8) for _ in range(3)]
    found = [rdp_epsilon(rounds[: n + 1], 1e-3) for n in range(3)]
    assert found == pytest.approx([2.357, 3.050, 3.610], abs=0.005)


def test_events_that_were_written_down_go_on_exactly() -> None:
    # 4.22: the list of events is all the state there is
    spent = [event(1 / 7, 1.1, 13), event(0.3, 2.5, 4), event(1.0, 9.0, 1)]
    restored = [Event(**raw) for raw in json.loads(json.dumps([asdict(one) for one in spent]))]
    following = event(1 / 7, 1.1, 13)
    accounting._epsilons.cache_clear()
    first = epsilons([*spent, following], 1e-3)
    accounting._epsilons.cache_clear()
    accounting._claimed.cache_clear()
    assert epsilons([following, *reversed(restored)], 1e-3) == first


def test_equal_pairs_become_one_and_whole_center_steps_one_gaussian() -> None:
    events = [event(0.1, 1, 3), event(1.0, 4.0, 4), event(0.1, 1, 4), event(0.1, 2, 1), event(1.0, 1.0, 0)]
    # 4 steps of noise 4 have together the mean 1 / 2 of one step of noise 2
    assert merged(events) == (event(0.1, 1, 7), event(0.1, 2, 1), event(1.0, 2.0, 1))


@pytest.mark.parametrize(
    ("steps", "noise", "wanted"),
    [
        (160, 4.47, 1.00),
        (160, 1.93, 3.00),
        (160, 1.06, 7.91),
        (160, 0.94, 9.95),
        (400, 6.93, 1.00),
        (400, 2.86, 3.01),
        (400, 1.45, 7.96),
        (400, 1.27, 9.91),
    ],
)
def test_the_patient_table(steps: int, noise: float, wanted: float) -> None:
    # 4.23: by RDP, with rounded noise
    delta = 1 / 650
    assert rdp_epsilon([event(8 / 65, noise, steps)], delta) == pytest.approx(wanted, abs=0.05)
    assert claimed_epsilon([event(8 / 65, noise, steps)], delta) < wanted


@pytest.mark.parametrize(("target", "steps"), [(1.0, 160), (8.0, 160), (3.0, 400)])
def test_solved_noise_reaches_the_target_and_never_passes_it(target: float, steps: int) -> None:
    noise = solve_noise([(8 / 65, steps)], target, 1 / 650)
    assert noise == float(f"{noise:.4g}")
    assert 0.998 * target < claimed_epsilon([event(8 / 65, noise, steps)], 1 / 650) <= target


def test_solved_noise_of_a_whole_center_is_below_that_of_rdp() -> None:
    # 4.24: RDP solves 3.2 for epsilon 8; the exact Gaussian needs less
    noise = solve_noise([(1.0, 50)], 8, 1e-2)
    assert noise < 3.2
    assert exact(noise, 50, 1e-2) <= 8
    assert exact(noise * 0.998, 50, 1e-2) > 8


def test_one_noise_serves_two_tasks_after_what_was_spent_before() -> None:
    before = [event(0.1, 1.5, 40)]
    noise = solve_noise([(0.1, 60), (0.2, 30)], 8, 1e-3, before=before)
    after = [*before, event(0.1, noise, 60), event(0.2, noise, 30)]
    assert 7.97 < claimed_epsilon(after, 1e-3) <= 8
    assert noise > solve_noise([(0.1, 60), (0.2, 30)], 8, 1e-3)
    assert noise == solve_noise([(0.2, 30), (0.1, 60)], 8, 1e-3, before=before)


def test_no_noise_is_enough_after_too_much() -> None:
    with pytest.raises(BudgetError, match=r"epsilon 6\.\d+ was spent already .* target of 2"):
        solve_noise([(0.1, 10)], 2, 1e-3, before=[event(0.1, 1.0, 160)])


def test_hardly_any_noise_is_needed_for_a_huge_target() -> None:
    assert solve_noise([(0.1, 1)], 1e4, 1e-3) == 0.05


@pytest.mark.parametrize(
    ("workloads", "target", "delta", "said"),
    [
        ([(0.1, 10)], 0.0, 1e-3, "target epsilon is 0.0"),
        ([(0.1, 10)], math.nan, 1e-3, "target epsilon is nan"),
        ([(0.1, 10)], 1.0, 1.0, "delta is 1.0"),
        ([(0.1, 10)], 1.0, 0.0, "delta is 0.0"),
        ([(0.1, 0)], 1.0, 1e-3, "no steps"),
        ([], 1.0, 1e-3, "no steps"),
        ([(1.2, 10)], 1.0, 1e-3, "sampling rate is 1.2"),
    ],
)
def test_a_number_out_of_range_is_refused(
    workloads: Sequence[tuple[float, int]], target: float, delta: float, said: str
) -> None:
    with pytest.raises(PrivacyError, match=said):
        solve_noise(workloads, target, delta)


def test_accountants_that_disagree_claim_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "prv_epsilon", lambda *_, **__: 1.06)
    monkeypatch.setattr(accounting, "rdp_epsilon", lambda *_: 2.0)
    monkeypatch.setattr(accounting, "_claimed", lambda *_: 1.0)
    with pytest.raises(PrivacyError, match=r"1 by PLD, 1\.06 by PRV.*differ by more than 5 %"):
        epsilons([event(0.1, 1.234, 5)], 1e-3)
    monkeypatch.setattr(accounting, "prv_epsilon", lambda *_, **__: 1.04)
    assert epsilons([event(0.1, 1.234, 5)], 1e-3).prv == 1.04
    accounting._epsilons.cache_clear()
    monkeypatch.setattr(accounting, "rdp_epsilon", lambda *_: 1.0)
    with pytest.raises(PrivacyError, match="above RDP"):
        epsilons([event(0.1, 1.234, 5)], 1e-3)
    monkeypatch.setattr(accounting, "prv_epsilon", lambda *_, **__: math.nan)
    with pytest.raises(PrivacyError, match="nan by PRV"):
        epsilons([event(0.1, 1.234, 5)], 1e-3)


GRID = [
    (0.02, 8.0, 10, 1e-2),
    (0.02, 0.5, 2000, 1e-5),
    (0.1, 2.0, 1, 1e-5),
    (8 / 65, 6.93, 400, 1 / 650),
    (0.5, 8.0, 2000, 1e-5),
    (0.01, 4.0, 40_000, 1e-5),
    (1.0, 0.5, 20, 1e-2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), GRID)
def test_the_grid_of_losses_is_fine_enough(rate: float, noise: float, steps: int, delta: float) -> None:
    finest = PLDAccountant(value_discretization_interval=1e-5 if noise > 1 else 1e-4)
    finest.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)), steps)
    found = pld_epsilon([event(rate, noise, steps)], delta)
    assert found == pytest.approx(finest.get_epsilon(delta), abs=1e-3)
    assert found >= finest.get_epsilon(delta) - 1e-5  # the rounding is to the safe side


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), GRID)
def test_three_accountants_agree_over_rates_noises_and_steps(
    rate: float, noise: float, steps: int, delta: float
) -> None:
    found = epsilons([event(rate, noise, steps)], delta)
    assert 0 <= found.pld <= found.prv <= found.rdp


def test_accounting_is_quiet() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        epsilons([event(0.01, 4.0, 33), event(1.0, 50.0, 1)], 1e-3)
    assert said == []


def test_a_root_on_the_wrong_side_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "brentq", lambda *_, **__: math.log(1.40))  # exact epsilon 7.126
    noise = solve_noise([(1.0, 10)], 7.12, 1e-2)
    assert noise > 1.40
    assert exact(noise, 10, 1e-2) <= 7.12 < exact(noise - 0.002, 10, 1e-2)
