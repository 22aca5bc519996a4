import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from ramw_fed.errors import RamwFedError
from ramw_fed.metrics.classification import CLASSIFICATION_METRICS, classification_metrics, classification_statistic
from ramw_fed.metrics.estimate import NotEstimable
from ramw_fed.metrics.ranking import ranking_statistic
from ramw_fed.metrics.rows import Rows
from ramw_fed.statistics.intervals import patient_weights


def joints(seed, *, count=300, prevalence=0.2, step=None):
    """Probabilities that know something of the labels, overconfident; with ``step`` many are equal."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < prevalence).astype(int)
    logit = 1.7 * (rng.normal(size=count) + 1.2 * labels - 1.5) + 0.3
    probabilities = 1 / (1 + np.exp(-logit))
    if step:
        probabilities = np.round(probabilities / step) * step
    grades = np.where(labels, rng.integers(1, 6, count), 0)
    predicted = np.clip(grades + rng.integers(-2, 3, count), 0, 5)
    return probabilities, labels, grades, predicted


@pytest.mark.parametrize(
    ("seed", "threshold", "step"), [(0, 0.5, None), (1, 0.21, None), (2, 0.3, 0.07), (3, 0.03, 0.25)]
)
def test_values_equal_scikit_learn(seed, threshold, step):
    probabilities, labels, grades, predicted_grades = joints(seed, step=step)
    ours = classification_metrics(
        probabilities, labels, threshold=threshold, grades=grades, predicted_grades=predicted_grades
    )
    called = probabilities >= threshold
    theirs = {
        "acc": sk.accuracy_score(labels, called),
        "bacc": sk.balanced_accuracy_score(labels, called),
        "f1": sk.f1_score(labels, called),
        "sen": sk.recall_score(labels, called),
        "spc": sk.recall_score(labels, called, pos_label=0),
        "pre": sk.precision_score(labels, called),
        "npv": sk.precision_score(labels, called, pos_label=0),
        "auroc": sk.roc_auc_score(labels, probabilities),
        "auprc": sk.average_precision_score(labels, probabilities),
        "mcc": sk.matthews_corrcoef(labels, called),
        "brier": sk.brier_score_loss(labels, probabilities),
        "qwk": sk.cohen_kappa_score(grades, predicted_grades, labels=range(6), weights="quadratic"),
        "mae": sk.mean_absolute_error(grades, predicted_grades),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("seed", [4, 5])
def test_values_equal_torchmetrics(seed):
    probabilities, labels, _, _ = joints(seed)
    ours = classification_metrics(probabilities, labels)
    pair = torch.from_numpy(probabilities), torch.from_numpy(labels)
    theirs = {
        "acc": tm.binary_accuracy(*pair),
        "f1": tm.binary_f1_score(*pair),
        "sen": tm.binary_recall(*pair),
        "spc": tm.binary_specificity(*pair),
        "pre": tm.binary_precision(*pair),
        "npv": tm.binary_negative_predictive_value(*pair),
        "auroc": tm.binary_auroc(*pair),
        "auprc": tm.binary_average_precision(*pair),
        "mcc": tm.binary_matthews_corrcoef(*pair),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(value), abs=1e-6), name


def test_calibration_equals_logistic_regression_of_scikit_learn():
    probabilities, labels, _, _ = joints(6, count=2000)
    logit = np.log(probabilities / (1 - probabilities))
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], labels)
    ours = classification_metrics(probabilities, labels)
    assert ours["slope"] == pytest.approx(fitted.coef_[0, 0], abs=1e-5)
    # the intercept with the slope held at 1 brings the mean probability to the prevalence
    assert np.mean(1 / (1 + np.exp(-(ours["intercept"] + logit)))) == pytest.approx(labels.mean(), abs=1e-12)


def test_probabilities_that_are_twice_too_sure_have_half_the_slope():
    rng = np.random.default_rng(7)
    logit = rng.normal(size=40_000)
    labels = rng.random(40_000) < 1 / (1 + np.exp(-logit))
    honest = classification_metrics(1 / (1 + np.exp(-logit)), labels)
    sure = classification_metrics(1 / (1 + np.exp(-2 * logit)), labels)
    too_high = classification_metrics(1 / (1 + np.exp(-(logit + 1))), labels)
    assert honest["slope"] == pytest.approx(1, abs=0.05)
    assert honest["intercept"] == pytest.approx(0, abs=0.05)
    assert sure["slope"] == pytest.approx(honest["slope"] / 2)
    assert too_high["intercept"] == pytest.approx(honest["intercept"] - 1)
    assert too_high["ece"] > sure["ece"] > honest["ece"]


def confusion(tp, fn, tn, fp):
    called = [1] * tp + [0] * fn + [0] * tn + [1] * fp
    return np.array(called, float), np.array([1] * (tp + fn) + [0] * (tn + fp))


def test_odds_ratio_adds_a_half_to_all_four_cells():
    assert classification_metrics(*confusion(3, 0, 10, 2))["dor"] == pytest.approx(29.4, abs=1e-9)
    # also where no cell is empty: 2.5 * 3.5 / (1.5 * 4.5), and below 1 where the model is wrong
    assert classification_metrics(*confusion(2, 1, 3, 4))["dor"] == pytest.approx(8.75 / 6.75)
    assert classification_metrics(*confusion(0, 3, 2, 10))["dor"] == pytest.approx(0.5 * 2.5 / (3.5 * 10.5))


def test_a_probability_at_the_threshold_is_called_eroded():
    values = classification_metrics([0.3, 0.29], [1, 0], threshold=0.3)
    assert (values["sen"], values["spc"]) == (1, 1)


def test_balanced_accuracy_is_the_mean_of_sensitivity_and_specificity_as_published():
    # MobileViT on RAM-W600: SEN 21.06, SPC 84.23, BACC 52.64 (printed)
    values = classification_metrics(*confusion(2106, 10_000 - 2106, 8423, 10_000 - 8423))
    assert values["sen"] == pytest.approx(0.2106)
    assert values["spc"] == pytest.approx(0.8423)
    assert values["bacc"] == pytest.approx(0.52645, abs=1e-4)


def test_calibration_error_of_five_equal_bins_is_what_one_counts():
    probabilities = np.array([0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.9, 0.9])
    labels = np.array([0, 1, 0, 0, 0, 0, 1, 1, 1, 0])
    # |.1 - .5|, |.2 - 0|, |.4 - 0|, |.6 - 1|, |.9 - .5|, each of weight 1 / 5
    assert classification_metrics(probabilities, labels)["ece"] == pytest.approx((0.4 + 0.2 + 0.4 + 0.4 + 0.4) / 5)


def test_calibration_error_of_equal_probabilities_is_the_distance_to_the_prevalence():
    assert classification_metrics(np.full(10, 0.3), [1] * 5 + [0] * 5)["ece"] == pytest.approx(0.2)


def test_grades_within_one_are_counted():
    values = classification_metrics([0.1] * 4, [0, 0, 1, 1], grades=[0, 0, 2, 5], predicted_grades=[0, 1, 4, 2])
    assert values["within1"] == 0.5
    assert values["mae"] == 6 / 4


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_in_truth_is_not_estimable_and_says_so(label):
    values = classification_metrics([0.2, 0.4, 0.7, 0.9], [label] * 4)
    for name in ("auroc", "auprc", "bacc", "mcc", "dor", "slope", "intercept"):
        assert isinstance(values[name], NotEstimable), name
        assert "one class" in values[name].reason
    assert values["acc"] == 0.5
    present, absent = ("sen", "spc") if label else ("spc", "sen")
    assert values[present] == 0.5
    assert isinstance(values[absent], NotEstimable)


@pytest.mark.parametrize(
    ("name", "case", "word"),
    [
        ("pre", ([0.1, 0.2], [0, 1]), "called eroded"),
        ("npv", ([0.8, 0.9], [0, 1]), "called eroded"),
        ("f1", ([0.1, 0.2], [0, 0]), "none is called"),
        ("mcc", ([0.1, 0.2], [0, 1]), "called the same"),
        ("slope", ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]), "separate"),
        ("slope", ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]), "separate"),
        ("slope", ([0.3, 0.3], [0, 1]), "equal"),
        ("slope", ([1e-9, 3e-9, 2e-9, 1e-9, 4e-9], [1, 0, 1, 0, 0]), "equal"),  # beyond the clip
        ("qwk", ([0.1, 0.2], [0, 1]), "no predicted grades"),
        ("acc", ([], []), "no scored joints"),
    ],
)
def test_a_zero_denominator_is_not_estimable_and_says_why(name, case, word):
    value = classification_metrics(*case)[name]
    assert isinstance(value, NotEstimable)
    assert word in value.reason


def test_kappa_of_grades_that_are_all_equal_is_not_estimable():
    values = classification_metrics([0.1] * 3, [0] * 3, grades=[0] * 3, predicted_grades=[0] * 3)
    assert isinstance(values["qwk"], NotEstimable)
    assert values["mae"] == 0


def test_every_metric_is_listed_whatever_the_data():
    for case in (joints(8)[:2], ([], []), ([0.5], [1])):
        assert tuple(classification_metrics(*case)) == CLASSIFICATION_METRICS


@pytest.mark.parametrize("step", [None, 0.1])
def test_with_one_joint_a_patient_the_bootstrap_is_the_ordinary_one_with_the_same_draws(step):
    """Each resample by scikit-learn, of joints repeated as often as they were drawn; with and without equal scores."""
    probabilities, labels, *_ = joints(4, count=80, step=step)
    probabilities = np.clip(probabilities, 0, 1)
    rows = Rows(probabilities=probabilities, labels=labels > 0, units=np.arange(80), num_units=80)
    weights = patient_weights([("A", f"{number:02d}") for number in range(80)], seed=1, resamples=50)
    drawn = [np.repeat(np.arange(80), np.rint(weight * 79 / 80).astype(int)) for weight in weights]
    found = ranking_statistic(rows)(weights)
    for name, theirs in (("auroc", sk.roc_auc_score), ("auprc", sk.average_precision_score)):
        ordinary = [theirs(labels[joint], probabilities[joint]) for joint in drawn]
        np.testing.assert_allclose(found[name], ordinary, atol=1e-12)


def test_a_patient_of_weight_two_counts_as_two_patients():
    """Against the plain values with rows repeated; slope and intercept take one Newton step and come near."""
    probabilities, labels, grades, predicted = joints(9, count=400)
    units = np.arange(400) % 40
    columns = {"probabilities": probabilities, "labels": labels > 0, "grades": grades, "predicted_grades": predicted}
    weights = np.random.default_rng(0).integers(0, 3, (5, 40)).astype(float)
    rows = Rows(**columns, units=units, num_units=40)
    replicates = classification_statistic(rows, threshold=0.4)(weights)
    for weight, replicate in zip(weights.astype(int), replicates, strict=True):
        again = np.repeat(np.arange(400), weight[units])
        repeated = {name: column[again] for name, column in columns.items()}
        plain = classification_metrics(threshold=0.4, **repeated)
        for name, value in zip(CLASSIFICATION_METRICS, replicate, strict=True):
            tolerance = {"slope": 0.04, "intercept": 0.04, "ece": 0.03}.get(name, 1e-9)
            assert value == pytest.approx(plain[name], abs=tolerance), name


@pytest.mark.parametrize("wrong", [[0.1, np.nan], [0.1, 1.2], [-0.1, 0.5]])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(RamwFedError, match="probabilities"):
        classification_metrics(wrong, [0, 1])


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(RamwFedError, match="rows"):
        classification_metrics([0.1, 0.2, 0.3], [0, 1])
