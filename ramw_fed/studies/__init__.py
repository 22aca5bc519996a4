"""Cross-site studies: one question, one file; many runs, one tidy table, one analysis."""
