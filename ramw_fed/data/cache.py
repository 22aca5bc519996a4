"""Where decoded images and hashes of files are kept between runs. All of it can be deleted at any time."""

import os
from pathlib import Path

from ramw_fed.errors import CohortError

VARIABLE = "RAMW_FED_CACHE"


def cache_folder() -> Path:
    """Return the folder named by ``RAMW_FED_CACHE``, else ``ramw-fed`` in the user's cache; made when missing.

    Only its owner may look inside: it holds patients' radiographs.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ramw-fed"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CohortError(
            f"no cache can be kept at {folder} ({error.strerror}); set {VARIABLE} to a folder that can be written"
        ) from error
    return folder
