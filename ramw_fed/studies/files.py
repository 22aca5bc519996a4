"""Hashes of files."""

import hashlib
from pathlib import Path


def file_hash(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
