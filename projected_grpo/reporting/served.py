"""The exported adapters as plain transformers and PEFT serve them."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import GenerationConfig

from projected_grpo.core.base import Base, ModelError
from projected_grpo.policy.export import STATES, check_export
from projected_grpo.policy.origin import AdapterError, digest
from projected_grpo.prompts.prompts import is_chat
from projected_grpo.settings.profile import Profile, Sampling


def check_prompting(base: Base, folder: Path, profile: Profile) -> None:
    """Raises ModelError where the tokenizer cannot make the prompts that the profile's model was trained on."""
    if profile.model.kind != "toy" and not is_chat(base):
        raise ModelError(
            f"{folder}: its tokenizer has no chat template, and the profile's problems are asked in a chat; "
            "run the base_model stage again, or set the profile that the adapter was trained with"
        )
    if not is_chat(base) and base.tokenizer.bos_token is None:
        raise ModelError(f"{folder}: its tokenizer has neither a chat template nor a token that begins a text; run the base_model stage again")


def load_exports(base: Base, adapter: Path) -> PeftModel:
    """The base model with both exports beside it, by name. Raises AdapterError where one is missing or of another base model."""
    if not adapter.is_dir():
        raise AdapterError(f"{adapter}: is no folder; the stage report writes it, with {' and '.join(STATES)} in it")
    sha256 = digest(base.model)
    for state in STATES:
        check_export(adapter / state, sha256)
    model = PeftModel.from_pretrained(base.model, adapter / "full", adapter_name="full")
    model.load_adapter(adapter / "deployed", adapter_name="deployed")
    return model


@torch.inference_mode()
def answer(model: PeftModel, base: Base, state: str, prompt: list[int], sampling: Sampling, seed: int | None) -> str:
    """The completion of one export; greedy where `seed` is None."""
    model.set_adapter(state)
    tokens = torch.tensor([prompt], device=base.device)
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0} if seed is not None else {"do_sample": False}
    config = GenerationConfig(max_new_tokens=sampling.max_new_tokens, eos_token_id=list(base.end_ids), pad_token_id=base.eos_id, **drawn)
    if seed is not None:
        torch.manual_seed(seed)
    out = model.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), generation_config=config)
    return base.decode(out[0, tokens.shape[1] :].tolist())
