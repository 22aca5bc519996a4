import pytest

from ramw_fed.config import POOLED
from ramw_fed.data.cohort import Cohort
from ramw_fed.errors import ConfigError


def test_pooled_radiographs_are_those_of_one_center_whose_patients_stay_apart(phantom_cohort: Cohort) -> None:
    pooled = phantom_cohort.pooled()
    assert pooled.centers == (POOLED,)
    assert [one.name for one in pooled.radiographs] == [one.name for one in phantom_cohort.radiographs]
    assert len({one.patient for one in pooled.radiographs}) == len(
        {(one.center, one.patient) for one in phantom_cohort.radiographs}
    )


def test_only_the_centers_named_are_pooled_and_unknown_ones_refused(phantom_cohort: Cohort) -> None:
    pooled = phantom_cohort.pooled(("HU", "FA"))
    assert len(pooled.radiographs) == len(phantom_cohort.at("HU").radiographs) + len(
        phantom_cohort.at("FA").radiographs
    )
    with pytest.raises(ConfigError, match="XX"):
        phantom_cohort.pooled(("HU", "XX"))
