"""RAM-W600 from Hugging Face, for those who may use it: CC-BY-4.0, 4.66 GB."""

from pathlib import Path

from ramw_fed.errors import CohortError

REPOSITORY = "TokyoTechMagicYang/RAM-W600"
NOTICE = """\
RAM-W600 is licensed under CC-BY-4.0 (https://creativecommons.org/licenses/by/4.0/): whoever uses it names its authors.
  Yang et al., RAM-W600: A Multi-Task Wrist Dataset and Benchmark for Rheumatoid Arthritis,
  NeurIPS 2025 Datasets and Benchmarks, https://arxiv.org/abs/2507.05193, doi:10.57967/hf/5328"""


def download_ramw600(out: Path, *, revision: str | None = None) -> str:
    """Fetch the published cohort into ``out``; a broken download goes on where it stopped.

    Args:
        out: Folder that will hold ``Metadata.xlsx``; what is there already is kept and completed.
        revision: Commit, branch or tag of the data set; None for the newest.

    Returns:
        Licence and citation, to be shown.

    Raises:
        CohortError: Without connection, or where the host refuses.
    """
    try:
        # Comes with timm. Imported here: nothing else of the package talks to a network.
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise CohortError(
            "huggingface_hub is wanted for the download; install it, or fetch the files by hand"
        ) from error
    if out.exists() and not out.is_dir():
        raise CohortError(f"{out} is a file; name a folder")
    try:
        # Asked first: without connection snapshot_download takes a half-filled folder for the whole.
        commit = HfApi().dataset_info(REPOSITORY, revision=revision).sha
        snapshot_download(REPOSITORY, repo_type="dataset", revision=commit, local_dir=out)
    except Exception as error:  # network, proxy, host and disk each raise their own
        raise CohortError(
            f"{REPOSITORY} could not be fetched from Hugging Face ({type(error).__name__}); check the connection or "
            f"HF_ENDPOINT, then call again: it goes on where it stopped. `ramw-fed cohort phantom` needs no network"
        ) from error
    return NOTICE
