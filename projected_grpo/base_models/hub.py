"""A real base model from the hub, at a pinned commit, or from a folder, as a plain transformers checkpoint in the profile's dtype."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from projected_grpo.core.base import ModelError, require_chat_template
from projected_grpo.core.downloads import model_snapshot
from projected_grpo.settings.models import FolderModel, HubModel


def fetch_and_save(settings: HubModel, folder: Path) -> None:
    """Write weights and tokenizer to `folder`. Raises DownloadError, or ModelError where they are no chat model's."""
    snapshot = model_snapshot(settings.id, settings.revision)
    named, remedy = f"{settings.id}, revision {settings.revision}", "check model.id, or delete that folder to download it again"
    _save(snapshot, settings.dtype, folder, named, remedy, "model.id")


def copy_and_save(settings: FolderModel, folder: Path) -> None:
    """Write weights and tokenizer of the settings' folder to `folder`. Raises ModelError where they are no chat model's."""
    if not (Path(settings.path) / "config.json").exists():
        raise ModelError(f"{settings.path}: found no config.json; set model.path to the folder of a transformers model")
    _save(Path(settings.path), settings.dtype, folder, settings.path, "check model.path", "model.path")


def _save(source: Path, dtype: str, folder: Path, named: str, remedy: str, key: str) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{named}: transformers cannot load a causal language model from {source}: {error}; {remedy}") from error
    require_chat_template(tokenizer, named, key)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
