"""Base models: a transformers checkpoint folder with its tokenizer, loaded in the dtype in which it was saved."""

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers.utils

UNUSED = ("sklearn", "scipy", "psutil")  # of assisted generation, losses of detectors and continuous batching; a fifth of an import
for name in UNUSED:
    setattr(transformers.utils, f"is_{name}_available", lambda: False)
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase  # noqa: E402
from transformers.utils import logging  # noqa: E402

from projected_grpo.errors import InputError  # noqa: E402

logging.disable_progress_bar()  # one line a step is a stage's own progress


class ModelError(InputError):
    """A base model that cannot be used; the message names the file or folder."""


@dataclass(frozen=True)
class Base:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def eos_id(self) -> int:
        return self.tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, tokens: list[int]) -> str:
        """Text of a completion, its end token removed."""
        return self.tokenizer.decode([t for t in tokens if t != self.eos_id], clean_up_tokenization_spaces=False)


def load_base(folder: Path, device: str) -> Base:
    """The frozen base model in evaluation mode. Raises ModelError where the checkpoint or the device is missing or unfit."""
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder}: found no config.json; the base_model stage writes this folder")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is cuda, and torch finds no CUDA GPU here; set model.device=cpu, or run where one is")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    require_fast(model.dtype, device, str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Base(model.to(device).eval().requires_grad_(False), tokenizer)


def require_fast(dtype: torch.dtype, device: str, source: str) -> None:
    """Raises ModelError where a model of this dtype would run on the CPU many times slower than in float32."""
    if dtype == torch.bfloat16 and device == "cpu":
        raise ModelError(
            f"{source}: is bfloat16, and model.device is cpu, where a bfloat16 matrix product takes 44 to 499 times as long as one "
            "in float32 (pytorch issue 146508); set model.dtype=float32 in the profile, or model.device=cuda"
        )


def require_chat_template(tokenizer: PreTrainedTokenizerBase, source: str, key: str) -> None:
    """Raises ModelError where problems cannot be asked in a chat. `key` is the setting that names the model."""
    if tokenizer.chat_template is None:
        raise ModelError(
            f"{source}: its tokenizer has no chat template, and the profile's problems are asked in a chat; "
            f"set {key} to an instruction-tuned model"
        )
