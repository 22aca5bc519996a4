"""What benchmarks/coverage.py simulates: small in every run, whole among the slow tests (figures: docs/statistics.md).

The small ones catch an interval that is a fifth too narrow (it would cover 88 %), not one that is 3 % too narrow.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
_SPEC = importlib.util.spec_from_file_location("coverage_benchmark", _PATH)
coverage = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = coverage
_SPEC.loader.exec_module(coverage)


def test_means_of_300_small_studies_are_covered():
    """Ten patients a center; the standard error of a share of 95 % in 300 studies is 1.3 %."""
    for name, share in coverage.coverage_of_means(300, 10).items():
        assert 0.91 <= share <= 0.985, name


def test_worst_center_and_gap_of_150_small_studies_are_covered():
    for name, share in coverage.both_kinds_of_fairness(150, 10).items():
        assert share >= 0.91, name


def test_ranks_find_what_is_there_and_little_else():
    """1000 studies of ten patients a center; standard errors .7 % and 1.3 %."""
    found = coverage.findings_of_ranks(1000, 10)
    assert 0.02 < found["false findings"] <= 0.05 + 2 * 0.0069
    assert found["found"] == pytest.approx(found["planned"], abs=3 * 0.0126)


@pytest.mark.slow
@pytest.mark.parametrize("part", [coverage.coverage_of_means, coverage.coverage_of_auroc])
def test_intervals_of_65_patients_a_center_cover_the_truth_in_95_of_100_studies(part):
    shares = part(2000, 65)
    for name in ("pooled", "macro"):
        assert 0.935 <= shares[name] <= 0.965, name


@pytest.mark.slow
def test_intervals_of_ten_patients_a_center_cover_the_truth_nearly_as_often():
    for part in (coverage.coverage_of_means, coverage.coverage_of_auroc):
        shares = part(1000, 10)
        for name in ("pooled", "macro"):
            assert 0.92 <= shares[name] <= 0.98, (part, name)


@pytest.mark.slow
def test_holms_family_errs_in_5_of_100_studies_and_finds_what_was_planned():
    """Two standard errors of the share each."""
    for part, studies in ((coverage.findings_of_ranks, 20_000), (coverage.findings_of_areas, 400)):
        found = part(studies, 65)
        assert found["false findings"] <= 0.05 + 2 * (0.05 * 0.95 / studies) ** 0.5
        assert found["found"] >= found["planned"] - 2 * (0.25 / studies) ** 0.5
