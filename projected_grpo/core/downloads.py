"""Pinned files of the Hugging Face hub, in the user's own cache (HF_HOME): after one download no network is needed.

HF_HUB_OFFLINE=1, which `make` sets by default, forbids downloads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from projected_grpo.core.errors import InputError

MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


class DownloadError(InputError):
    """A file of the hub that is not to be had; the message names the repository, the revision and the setting."""


def model_snapshot(name: str, revision: str) -> Path:
    """Folder with a model's files at a commit. Raises DownloadError."""
    with _refusals(name, revision, f"{name} --revision {revision}", "model.id and model.revision"):
        return Path(snapshot_download(name, revision=revision, allow_patterns=MODEL_FILES))


def dataset_file(name: str, revision: str, file: str) -> Path:
    """A file of a dataset at a commit. Raises DownloadError."""
    with _refusals(name, revision, f"{name} {file} --repo-type dataset --revision {revision}", "problems.path"):
        return Path(hf_hub_download(name, file, repo_type="dataset", revision=revision))


@contextmanager
def _refusals(name: str, revision: str, arguments: str, keys: str) -> Iterator[None]:
    """`arguments`: of the command `hf download` that fetches the same."""
    what, command = f"{name}, revision {revision}", f"`hf download {arguments}`"
    missing = f"{what}: is not, or not whole, in the cache {constants.HF_HUB_CACHE}"
    try:
        yield
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{what}: {constants.ENDPOINT} has no {name}, or it is private or gated; check {keys}, or run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(f"{what}: {constants.ENDPOINT} has {name} but no such revision; set {keys} to one of its commits") from error
    except RemoteEntryNotFoundError as error:
        raise DownloadError(f"{what}: {constants.ENDPOINT} has {name} but not the file; check {keys}; tried {command}") from error
    except LocalEntryNotFoundError as error:
        if constants.is_offline_mode():
            raise DownloadError(
                f"{missing}, and HF_HUB_OFFLINE forbids downloads; run once with HF_HUB_OFFLINE=0, or beforehand {command}"
            ) from error
        raise DownloadError(
            f"{missing}, and {constants.ENDPOINT} cannot be reached; check the network, or bring a cache in which {command} has run"
        ) from error
    except HfHubHTTPError as error:
        raise DownloadError(f"{what}: the download failed: {error}; run again, or beforehand {command}") from error
