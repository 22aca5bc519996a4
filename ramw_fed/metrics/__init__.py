"""Pure functions from predictions and truth to numbers."""
