"""A real base model from the hub, at a pinned commit, as a plain transformers checkpoint in the profile's dtype."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from projected_grpo.core.base import ModelError, require_chat_template
from projected_grpo.core.downloads import model_snapshot
from projected_grpo.settings.profile import HubModel


def fetch_and_save(settings: HubModel, folder: Path) -> None:
    """Write weights and tokenizer to `folder`. Raises DownloadError, or ModelError where they are no chat model's."""
    snapshot = model_snapshot(settings.id, settings.revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(snapshot, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(snapshot, dtype=settings.dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{settings.id}, revision {settings.revision}: transformers cannot load a causal language model from {snapshot}: "
            f"{error}; check model.id, or delete that folder to download it again"
        ) from error
    require_chat_template(tokenizer, f"{settings.id}, revision {settings.revision}", "model.id")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
