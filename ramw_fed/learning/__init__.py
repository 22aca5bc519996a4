"""Batches to weights at one center; nothing here knows of a federation."""
