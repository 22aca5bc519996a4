"""What an attack finds, against other libraries."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from ramw_fed.privacy.audit.membership import attack, lower_limit, upper_limit


def test_members_are_counted_above_all_but_one_percent_of_the_others() -> None:
    others = np.arange(1000.0)  # ten of them, 990 to 999, are above 989
    members = np.array([989.0, 989.5, 1000.0, 3.0])
    found = attack(members, others)
    assert (found.true_positives, found.false_positives) == (0.5, 0.01)
    assert (found.members, found.others) == (4, 1000)


def test_ties_at_the_threshold_are_nobodys() -> None:
    found = attack(np.zeros(10), np.zeros(1000))
    assert found.true_positives == found.false_positives == 0.0
    assert found.auroc == 0.5


def test_the_area_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    members, others = generator.normal(0.5, 1, 40).round(1), generator.normal(0, 1, 300).round(1)
    truth = [1] * 40 + [0] * 300
    assert attack(members, others).auroc == pytest.approx(roc_auc_score(truth, np.concatenate([members, others])))


@pytest.mark.parametrize(("count", "of"), [(0, 60), (7, 100), (100, 100), (10, 1000)])
def test_the_limits_are_those_of_statsmodels(count: int, of: int) -> None:
    low, high = proportion_confint(count, of, alpha=0.025, method="beta")
    assert lower_limit(count, of) == pytest.approx(low, abs=1e-12)
    assert upper_limit(count, of) == pytest.approx(high, abs=1e-12)
