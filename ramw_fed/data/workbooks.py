"""Excel workbooks whose bytes do not tell the time."""

import io
import re
import zipfile
from pathlib import Path

from openpyxl import Workbook

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can hold


def save_workbook(workbook: Workbook, path: Path) -> None:
    """Save so that the same content gives the same bytes on every day.

    Every date in the archive and in the document's properties is replaced; uncompressed, so free of zlib's version.
    """
    buffer, result = io.BytesIO(), io.BytesIO()
    workbook.save(buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(result, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"1980-01-01T00:00:00Z", content)
            target.writestr(zipfile.ZipInfo(name, _DATE), content)
    path.write_bytes(result.getvalue())
