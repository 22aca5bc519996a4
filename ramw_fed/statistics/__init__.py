"""Intervals, comparisons, mixed models, equivalence, fairness and power: pure functions of arrays."""
