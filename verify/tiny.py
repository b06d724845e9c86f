"""A tiny random policy that several gates share: two Llama layers, an adapter whose blocks both have moved."""

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from projected_grpo.base_models.pretrain import train_tokenizer
from projected_grpo.core.base import Base
from projected_grpo.policy.adapter import adapter_state
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.inits import FROM_PAIRS, Initialization, initialize, input_differences
from projected_grpo.policy.policy import Policy
from projected_grpo.prompts.modes import TRAINING_WORDS
from projected_grpo.settings.arm import Adapter
from projected_grpo.toy_world.attempts import sample_attempt

RANK = 3


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    import random

    rng = random.Random(0)
    texts = [sample_attempt(("even", "double", "sum"), "run_tests", TRAINING_WORDS, 0.5, {"run_tests": 0.5}, rng) for _ in range(200)]
    return train_tokenizer(texts, 300)


def tiny_model(seed: int = 0, kv_heads: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=kv_heads, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(3.0)  # far from the near-uniform distribution of a fresh initialization
    return model


def tiny_differences(model: LlamaForCausalLM, seed: int = 0) -> dict[str, Tensor]:
    """Of five pairs of random tokens."""
    rng = torch.Generator().manual_seed(seed)
    prompts, hack, clean = (torch.randint(3, 300, (5, 4), generator=rng).tolist() for _ in range(3))
    return input_differences(model, TokenBatch.collate(prompts, hack), TokenBatch.collate(prompts, clean), 2)


def tiny_init(model: LlamaForCausalLM, init: str = "gaussian", seed: int = 0) -> Initialization:
    return initialize(model, Adapter(init=init, rank=RANK, seed=seed), tiny_differences(model) if init in FROM_PAIRS else {})


def tiny_policy(moved: bool, temperature: float = 1.0, init: str = "gaussian", kv_heads: int = 2, device: str = "cpu") -> Policy:
    """A policy of about 30,000 parameters; `moved` gives every trained tensor a random difference."""
    model = tiny_model(kv_heads=kv_heads)
    initialization = tiny_init(model, init)
    policy = Policy(Base(model.to(device), tiny_tokenizer()), initialization, temperature)
    if moved:
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=rng))
    return policy


def tiny_batch(rows: int = 6, seed: int = 0) -> TokenBatch:
    """Rows of different prompt and completion lengths."""
    rng = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 300, (count,), generator=rng).tolist()

    return TokenBatch.collate([tokens(4 + i % 3) for i in range(rows)], [tokens(3 + 2 * i % 7) for i in range(rows)])


@torch.no_grad()
def base_logp(policy: Policy, batch: TokenBatch) -> Tensor:
    """Log-probabilities (B, L) of the base model."""
    with adapter_state(policy.context, enabled=False):
        return policy.logp(batch)


@torch.no_grad()
def end_often(policy: Policy) -> None:
    """The logit of the end token, of either sign, becomes a large one, so that most completions end early."""
    policy.base.model.lm_head.weight[policy.base.eos_id] *= 24
