"""Synthetic wrists: anatomy, erosions, imaging styles, rendering."""
