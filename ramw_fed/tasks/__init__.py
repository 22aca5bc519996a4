"""What a model learns: one task, one file."""
