"""The notebook of docs/ is what its cells compute, and holds nothing of the machine that it was written on."""

import re
import socket
import sys
from getpass import getuser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

PATH = Path(__file__).parent.parent / "docs" / "study_in_a_notebook.ipynb"
NUMBER = re.compile(r"-?\d*\.?\d+")


def read() -> Any:
    return nbformat.read(PATH, as_version=4)


def printed(notebook: Any) -> list[str]:
    """What each cell of code prints."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(one.text for one in cell.outputs if one.output_type == "stream") for cell in cells]


def test_the_file_is_small_was_run_once_from_top_to_bottom_and_names_no_machine() -> None:
    text, notebook = PATH.read_text(encoding="utf-8"), read()
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [one for cell in cells for one in cell.outputs if one.get("name") == "stderr"]
    assert sum("image/png" in one.get("data", {}) for cell in cells for one in cell.outputs) == 1
    assert len(text) < 200_000
    readable = "".join(cell.source for cell in notebook.cells) + "".join(printed(notebook))
    for place in ("/tmp", "/home", "/Users", "/root", sys.prefix, str(PATH.parent.parent)):
        assert place not in readable, place
    for name in (socket.gethostname(), getuser()):
        assert not re.search(rf"\b{re.escape(name)}\b", readable), name
    assert not re.search(r"20\d\d-\d\d|\d\d:\d\d", readable)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(not cell.metadata for cell in notebook.cells)


@pytest.mark.slow
# The kernel is a process of its own; what its libraries warn of here is not ours.
@pytest.mark.filterwarnings("default")
def test_running_it_again_prints_the_same_numbers(tmp_path: Path) -> None:
    saved, again = read(), read()
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(again, kernel_name="python3", timeout=600, coalesce_streams=True, resources=resources).execute()
    assert [NUMBER.sub("#", text) for text in printed(again)] == [NUMBER.sub("#", text) for text in printed(saved)]
    for now, before in zip(printed(again), printed(saved), strict=True):
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (now, before)]
        # Another processor adds in another order: the last digit printed may differ.
        assert numbers[0] == pytest.approx(numbers[1], abs=0.02, rel=0.05)
    assert not list(tmp_path.iterdir())
