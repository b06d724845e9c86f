"""Base models: a transformers checkpoint folder with its tokenizer, loaded in the dtype in which it was saved."""

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers.utils
from jaxtyping import Float
from torch import Tensor

UNUSED = ("sklearn", "scipy", "psutil")  # of assisted generation, losses of detectors and continuous batching; a fifth of an import
for name in UNUSED:
    setattr(transformers.utils, f"is_{name}_available", lambda: False)
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase  # noqa: E402
from transformers.utils import logging  # noqa: E402

from projected_grpo.core.errors import InputError  # noqa: E402

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
        """The token that ends a completion which we write."""
        return self.tokenizer.eos_token_id

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Every token that ends a completion: that of the tokenizer, and those of the checkpoint's generation settings."""
        named = self.model.generation_config.eos_token_id
        return tuple(dict.fromkeys([self.eos_id, *(named if isinstance(named, list) else [] if named is None else [named])]))

    def logits(self, states: Float[Tensor, "... d"]) -> Float[Tensor, "... V"]:
        """Of the last hidden states, as the model itself computes them: some families scale or cap what the head gives."""
        config, logits = self.model.config, self.model.lm_head(states)
        if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
            logits = logits / divisor
        if (factor := getattr(config, "logit_scale", None)) is not None:  # Cohere
            logits = logits * factor
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
            logits = cap * (logits / cap).tanh()
        return logits

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, tokens: list[int]) -> str:
        """Text of a completion, its end token removed."""
        ends = self.end_ids
        return self.tokenizer.decode([t for t in tokens if t not in ends], clean_up_tokenization_spaces=False)


def load_base(folder: Path, device: str) -> Base:
    """The frozen base model in evaluation mode. Raises ModelError where the checkpoint or the device is missing or unfit."""
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder}: found no config.json; the base_model stage writes this folder")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is cuda, and torch finds no CUDA GPU here; set model.device=cpu, or run where one is")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    require_fast(model.dtype, device, str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    base = Base(model.to(device).eval().requires_grad_(False), tokenizer)
    if tokenizer.chat_template is not None:
        _require_known_end(base, str(folder))
    return base


def _require_known_end(base: Base, source: str) -> None:
    """Raises ModelError where the chat template ends a turn with a token that ends no completion: sampling would go on past it."""
    answer = "An answer."
    turns = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": answer}]
    _, _, ending = base.tokenizer.apply_chat_template(turns, tokenize=False).rpartition(answer)
    special = [token for token in base.encode(ending) if token in base.tokenizer.added_tokens_decoder]
    if special and special[0] not in base.end_ids:
        known = ", ".join(map(repr, base.tokenizer.convert_ids_to_tokens(list(base.end_ids))))
        raise ModelError(
            f"{source}: its chat template ends a turn with {base.tokenizer.convert_ids_to_tokens(special[0])!r}, but what ends a completion is "
            f"{known}; add the token to eos_token_id in generation_config.json"
        )


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
