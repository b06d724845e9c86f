"""A random policy with prompts of many lengths, and the engines that sample from it."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from projected_grpo.core.base import load_base
from projected_grpo.policy.inits import initialize
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.sampling.protocol import Sampler
from projected_grpo.settings.arm import Adapter
from projected_grpo.settings.profile import LocalSampling, VllmSampling
from verify.tiny import tiny_tokenizer

RANK = 5  # 4r = 20, which vLLM serves in a rank of 32
LONGEST = 24  # new tokens at most
CONTEXT = 240  # tokens of a prompt and its completion at most
VOCABULARY = 300


def write_base(folder: Path) -> None:
    """Two Llama layers whose logits lie far apart: broad at a temperature of 2, and all but greedy at 0.01."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
        model.lm_head.weight.mul_(6.0)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def moved_policy(base: Path) -> Policy:
    """Both blocks have moved from their initialization."""
    loaded = load_base(base, "cpu")
    policy = Policy(loaded, initialize(loaded.model, Adapter(init="gaussian", rank=RANK, seed=0), {}), temperature=1.0)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=rng))
    return policy


def prompts() -> list[list[int]]:
    """Of 1 to 200 tokens. The last two share 170, more than the 128 of a block of the engine's cache."""
    rng = torch.Generator().manual_seed(40)
    long = torch.randint(3, VOCABULARY, (200,), generator=rng).tolist()
    return [long[:1], long[1:4], long[10:50], long[:180], long[:170] + long[:30]]


def local_engine(policy: Policy, base: Path) -> Sampler:
    return open_sampler(policy, LocalSampling(engine="merged", rows=64, max_prompt_tokens=CONTEXT - LONGEST, max_new_tokens=LONGEST, temperature=1.0), base)


def vllm_engine(policy: Policy, base: Path, tensor_parallel: int) -> Sampler:
    settings = VllmSampling(
        engine="vllm", max_new_tokens=LONGEST, temperature=1.0, tensor_parallel=tensor_parallel, memory_share=0.15,
        max_prompt_tokens=CONTEXT - LONGEST,
    )  # fmt: skip
    return open_sampler(policy, settings, base)
