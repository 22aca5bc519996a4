from pathlib import Path

import huggingface_hub
import pytest

from ramw_fed.data.download import download_ramw600
from ramw_fed.errors import CohortError


def test_without_connection_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("/home/someone/secret")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    with pytest.raises(CohortError, match=r"could not be fetched.*ConnectionError.*call again") as caught:
        download_ramw600(tmp_path / "out")
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_licence_and_citation_come_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    info = type("Info", (), {"sha": "abc"})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *args, **kwargs: asked.update(kwargs, repo=args[0])
    )
    notice = download_ramw600(tmp_path / "out")
    assert asked == {
        "repo": "TokyoTechMagicYang/RAM-W600",
        "repo_type": "dataset",
        "revision": "abc",
        "local_dir": tmp_path / "out",
    }
    assert "CC-BY-4.0" in notice
    assert "2507.05193" in notice


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(CohortError, match="is a file"):
        download_ramw600(tmp_path / "out")
