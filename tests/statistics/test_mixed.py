import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from ramw_fed.errors import RamwFedError
from ramw_fed.statistics.mixed import mixed_contrasts, random_intercepts

# Strength of 60 assays of a chemical paste: ten batches, three casks each, two assays each (Davies and Goldsmith 1972,
# table 6.9; `Pastes` of R's lme4).
PASTES = np.array(
    [
        *(62.8, 62.6, 60.1, 62.3, 62.7, 63.1, 60.0, 61.4, 57.5, 56.9, 61.1, 58.9, 58.7, 57.5, 63.9, 63.1, 65.4, 63.7),
        *(57.1, 56.4, 56.9, 58.6, 64.7, 64.5, 55.1, 55.1, 54.7, 54.2, 58.8, 57.5, 63.4, 64.9, 59.3, 58.1, 60.5, 60.0),
        *(62.5, 62.6, 61.0, 58.7, 56.9, 57.7, 59.2, 59.4, 65.2, 66.0, 64.8, 64.1, 54.8, 54.8, 64.0, 64.0, 57.7, 56.8),
        *(58.3, 59.3, 59.2, 59.2, 58.9, 56.6),
    ]
)
BATCH, CASK = np.repeat(np.arange(10), 6), np.repeat(np.arange(30), 2)


@pytest.mark.parametrize("groups", [BATCH, None])
def test_nested_intercepts_are_those_that_lme4_publishes(groups):
    """Bates et al., lme4 (book draft 2010, 2.2): lmer(strength ~ 1 + (1 | sample) + (1 | batch), Pastes)."""
    found = random_intercepts(PASTES, np.ones((60, 1)), {"cask": CASK, "batch": BATCH}, groups)
    deviations = {name: variance**0.5 for name, variance in found.components.items()}
    assert deviations == pytest.approx({"cask": 2.9041, "batch": 1.2874, "rest": 0.8234}, abs=5e-4)
    assert found.coefficients[0] == pytest.approx(60.0533, abs=5e-5)
    assert found.errors[0] == pytest.approx(0.6769, abs=5e-4)


def test_crossed_intercepts_of_a_balanced_table_are_those_of_the_analysis_of_variance():
    rng = np.random.default_rng(2)
    table = rng.normal(size=(30, 1)) + 0.7 * rng.normal(size=(1, 5)) + 0.5 * rng.normal(size=(30, 5))
    rows, columns = np.indices(table.shape).reshape(2, -1)
    found = random_intercepts(table.ravel(), np.ones((150, 1)), {"row": rows, "column": columns})
    by_row, by_column = 5 * table.mean(axis=1).var(ddof=1), 30 * table.mean(axis=0).var(ddof=1)
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    rest = (left**2).sum() / (29 * 4)
    expected = {"row": (by_row - rest) / 5, "column": (by_column - rest) / 30, "rest": rest}
    assert found.components == pytest.approx(expected, rel=1e-3)
    assert found.errors[0] ** 2 == pytest.approx((by_row + by_column - rest) / 150, rel=1e-3)


def study(*, seeds=1, per_center=12, seed_deviation=0.0, noise=0.01, gain=0.01):
    """Rows of two arms on six centers of unlike level; as the columns that ``mixed_contrasts`` takes."""
    rng, training = np.random.default_rng(7), np.random.default_rng(8)
    patients = [(center, f"{number:02d}") for center in "ABCDEF" for number in range(per_center)]
    level = np.repeat(rng.normal(0.9, 0.04, 6), per_center) + rng.normal(0, 0.03, len(patients))
    rows = []
    for arm, effect in (("fedavg", 0.0), ("fedprox", gain)):
        responses = effect + level + rng.normal(0, 0.02, len(patients))
        for seed in range(seeds):
            values = responses + training.normal(0, seed_deviation) + training.normal(0, noise, len(patients))
            rows += [(*patient, seed, arm, value) for patient, value in zip(patients, values, strict=True)]
    return [list(column) for column in zip(*rows, strict=True)]


def contrast(columns):
    (found,) = mixed_contrasts(*columns, reference="fedavg")
    return found


def differences(columns):
    values = np.array(columns[4]).reshape(2, -1)
    return values[1] - values[0]


def test_with_one_seed_both_models_give_the_paired_t_test_on_a_degree_of_freedom_less_a_center():
    """Balanced pairs: the difference's standard error is that of the mean difference, whatever centers do (by hand)."""
    columns = study()
    d, found = differences(columns), contrast(columns)
    error = d.std(ddof=1) / np.sqrt(72)
    for fit in (found.mixed, found.fixed):
        assert fit.estimate == pytest.approx(d.mean(), abs=1e-9)
        assert fit.interval.high - fit.estimate == pytest.approx(t.ppf(0.975, 66) * error, rel=1e-3)
        assert fit.p_value == pytest.approx(2 * t.sf(d.mean() / error, 66), rel=1e-2)
    assert found.mixed.p_value == pytest.approx(ttest_rel(*np.array(columns[4]).reshape(2, -1)).pvalue, rel=0.05)
    assert (found.arm, found.reference, found.patients, found.seeds) == ("fedprox", "fedavg", 72, 1)


def test_components_are_those_of_the_formula_fitted_by_statsmodels():
    pandas = pytest.importorskip("pandas")
    from statsmodels.formula.api import mixedlm

    columns = study()
    frame = pandas.DataFrame(dict(zip(("center", "patient", "seed", "arm", "value"), columns, strict=True)))
    frame["value"] *= 100  # statsmodels warns of any variance below 0.01
    by_hand = mixedlm(
        "value ~ arm", frame, groups="center", re_formula="1", vc_formula={"patient": "0 + C(patient)"}
    ).fit(reml=True)
    found = contrast(columns).mixed
    assert found.components["center"] == pytest.approx(by_hand.cov_re.iloc[0, 0] / 1e4, rel=1e-2)
    assert found.components["patient"] == pytest.approx(by_hand.vcomp[0] / 1e4, rel=1e-2)
    assert found.components["rest"] == pytest.approx(by_hand.scale / 1e4, rel=1e-2)
    assert found.interval.high - found.interval.low == pytest.approx(
        2 * t.ppf(0.975, 66) * by_hand.bse["arm[T.fedprox]"] / 100, rel=1e-3
    )


def test_seeds_that_say_the_same_do_not_shrink_the_interval():
    """Four seeds that hardly differ tell what one does; as patients they would halve the interval."""
    one, four = contrast(study(noise=0.0)), contrast(study(seeds=4, noise=1e-3))
    width = one.mixed.interval.high - one.mixed.interval.low
    assert four.mixed.interval.high - four.mixed.interval.low == pytest.approx(width, rel=0.05)
    assert four.fixed.interval.high - four.fixed.interval.low == pytest.approx(width, rel=0.05)
    assert (four.patients, four.seeds) == (72, 4)
    copies = contrast(study(seeds=4, noise=0.0)).mixed
    assert copies.interval.high - copies.interval.low == pytest.approx(width, rel=1e-6)
    assert copies.reason == "every seed gives the same values: says nothing of other seeds"


def test_seeds_that_differ_widen_the_interval():
    """Seed SD .02 an arm, four seeds: the mean difference varies by .02 sqrt(2 / 4) = .014; patients give .003."""
    found = contrast(study(seeds=4, seed_deviation=0.02))
    assert found.mixed.components["seed"] > 1e-4
    assert found.mixed.interval.high - found.mixed.interval.low > 5 * (
        found.fixed.interval.high - found.fixed.interval.low
    )


def test_one_seed_is_said():
    assert contrast(study()).mixed.reason == "one seed: says nothing of other seeds"
    assert contrast(study(seeds=2)).mixed.reason == ""


def test_a_patient_without_a_value_in_one_arm_is_left_out():
    columns = study()
    columns[4][0] = float("nan")
    found = contrast(columns)
    assert found.patients == 71
    assert found.mixed.estimate == pytest.approx(differences(columns)[1:].mean(), abs=1e-9)


def test_what_cannot_be_fitted_has_a_reason_instead_of_a_value():
    few = [column[:4] + column[72:76] for column in study()]
    assert contrast(few).mixed.as_dict() == {"reason": "4 patients have a value in both arms; 5 are needed"}
    same = study()
    same[4] = [0.5] * 144
    assert contrast(same).fixed.as_dict() == {
        "reason": "every patient differs by the same 0: there is nothing to estimate from"
    }


def test_a_reference_without_rows_is_refused():
    with pytest.raises(RamwFedError, match="no rows of 'fedbn' to compare with; there are fedavg, fedprox"):
        mixed_contrasts(*study(), reference="fedbn")


def test_one_center_has_no_center_component():
    found = contrast([column[:12] + column[72:84] for column in study()])
    assert set(found.mixed.components) == {"patient", "rest"}
    assert found.mixed.interval == found.fixed.interval


def test_as_dict_holds_what_a_table_shows():
    entry = contrast(study(seeds=2)).mixed.as_dict()
    assert set(entry) == {"value", "ci", "p", "components"}
    assert set(entry["components"]) == {"center", "patient", "rest", "seed"}
