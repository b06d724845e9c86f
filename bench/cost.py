"""Analytic cost of one GRPO step by pass: floating-point operations, and bytes of weights and cached keys and values read.

Usage: `python -m bench.cost` prints the tables of docs/scaling.md. Nothing is measured here. A multiplication and an
addition are two operations; element-wise work, activations and the optimizer are left out; attention counts the whole
square of positions; every rollout is taken to have the given lengths and to be in a group whose rewards differ.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen3Config

from projected_grpo.policy.adapter import target_layers
from projected_grpo.policy.layout import cheapest, products_of_a_pair
from projected_grpo.policy.policy import LOGIT_TOKENS


@dataclass(frozen=True)
class Shape:
    weights: int  # of the adapted linear layers
    widths: int  # d_in + d_out, summed over these layers
    head: int  # weights of the output layer
    attention: int  # operations for each pair of positions: two products of heads x head_dim, over all layers
    cache: int  # numbers cached for a position
    pair: float  # multiplications of attention for a pair, in those of a token with the weights


@dataclass(frozen=True)
class Scale:
    config: PreTrainedConfig
    weight_bytes: int  # of one weight of the base model
    rank: int  # r of each block
    prompts: int
    group: int
    deployed_share: float  # of each group, sampled with the quarantine ablated
    keep_share: float  # of the rollouts
    prompt: int  # tokens
    completion: int  # tokens
    micro_tokens: int  # of a forward pass
    recompute_layers: bool  # gradient checkpointing
    merged: bool  # sampling on weights into which the adapter is merged, one of each sampled state
    sampled_rows: int  # completions decoded at once

    @property
    def merged_layers(self) -> bool:
        """Whether the training passes take merged weights."""
        return self.weight_bytes == 4

    def factor_columns(self, blocks: int) -> int:
        return 0 if self.merged_layers else 2 * self.rank * blocks

    @property
    def rollouts(self) -> int:
        return self.prompts * self.group

    @property
    def states(self) -> list[str]:
        """Of the adapter, those that are sampled."""
        shares = {"full": 1 - self.deployed_share, "deployed": self.deployed_share}
        return [state for state, share in shares.items() if share]

    @property
    def zones(self) -> list[float]:
        """The shares of keep, absorb and route; the tails are equal."""
        return [self.keep_share, 1 - 2 * self.keep_share, self.keep_share]

    def row(self, copies: float) -> tuple[int, int]:
        """Completions of a prompt that share a row, where so many of it are in a pass, and the row's tokens."""
        shared = cheapest(self.shape.pair, self.prompt, float(self.completion), max(1, round(copies)))
        return shared, self.prompt + shared * self.completion

    def micro_batches(self, rows: float, copies: float) -> int:
        shared, tokens = self.row(copies)
        return math.ceil(rows / shared / max(1, self.micro_tokens // tokens))

    @cached_property
    def shape(self) -> Shape:
        config = self.config
        with torch.device("meta"):
            layers = list(target_layers(AutoModelForCausalLM.from_config(config)).values())
        return Shape(
            weights=sum(layer.weight.numel() for layer in layers),
            widths=sum(layer.in_features + layer.out_features for layer in layers),
            head=config.hidden_size * config.vocab_size,
            attention=4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers,
            cache=2 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers,
            pair=products_of_a_pair(config, layers),
        )


def forward(scale: Scale, rows: float, copies: float, columns: int = 0) -> float:
    """Operations of a forward pass over prompts and completions, with logits at the completions alone.

    `copies` completions of each prompt are in it. `columns` of the adapter's factors have products of their own: none where they are
    merged into the weights, as in float32.
    """
    s, (shared, tokens) = scale.shape, scale.row(copies)
    layers = 2 * tokens * (s.weights + columns * s.widths) + s.attention * tokens**2
    return rows * (layers / shared + 2 * scale.completion * s.head)


def backward(scale: Scale, rows: float, copies: float, blocks: int) -> float:
    """Operations of the backward pass: the base's weights are frozen, so each has one product and not two.

    The columns of the `blocks` that train have four: dy B and x A', and with them the gradients of A and B. Where the factors are
    apart there are 2r for each block, and A and B pass the gradient on, in place of merged weights. Layers are computed again where
    the scale says so.
    """
    s, (shared, tokens) = scale.shape, scale.row(copies)
    columns = scale.rank * blocks * (2 if scale.merged_layers else 4)
    layers = 2 * tokens * (s.weights + columns * s.widths) + 2 * s.attention * tokens**2
    again = forward(scale, 1, copies, scale.factor_columns(blocks)) - 2 * scale.completion * s.head if scale.recompute_layers else 0
    return rows * (layers / shared + 2 * scale.completion * s.head + again)


def passes(scale: Scale) -> Iterator[tuple[str, str, float, float]]:
    """(pass, phase of bench.step, operations, bytes read) of a step of the arm route."""
    s, n = scale.shape, scale.rollouts
    model = scale.weight_bytes * (s.weights + s.head)
    columns = sum(scale.rank * (4 if state == "full" else 2) for state in scale.states)
    merge = 2 * columns * s.weights if scale.merged else 0
    prefill = len(scale.states) * scale.prompts * (2 * scale.prompt * s.weights + s.attention * scale.prompt**2 + 2 * s.head)
    decoded = scale.completion - 1  # the first token is drawn from the prefill's logits
    positions = sum(scale.prompt + step for step in range(1, decoded + 1))  # read over the decode steps
    decode = n * (2 * decoded * (s.weights + s.head) + s.attention * positions)
    sampler = model + (len(scale.states) - 1) * scale.weight_bytes * s.weights if scale.merged else model
    read = math.ceil(n / scale.sampled_rows) * sampler * (1 + decoded) + scale.weight_bytes * s.cache * n * positions
    yield "sampling: merge, prefill, decode" if scale.merged else "sampling: prefill, decode", "sample", merge + prefill + decode, read
    group = scale.group
    ablated, read = scale.factor_columns(1), scale.micro_batches(n, group) * model
    if scale.merged_layers:  # for the passes below, which share them: deployed, both, and the quarantine alone
        yield "merged weights of a step", "gate", 2 * (2 * scale.rank * 4) * s.weights, model
    yield "deployed reading and its log-probabilities", "gate", forward(scale, n, group, ablated), read
    kept = n * scale.keep_share * (1 - scale.deployed_share)
    copies = group * scale.keep_share * (1 - scale.deployed_share)
    yield "kept rollouts that were sampled full: log pi_old", "update", forward(scale, kept, copies, 2 * ablated), scale.micro_batches(kept, copies) * model
    zones = [(n * share, group * share, blocks) for share, blocks in zip(scale.zones, (1, 2, 1))]
    present = (1, 2, 2)  # blocks in the forward pass of keep, absorb, route
    read = sum(scale.micro_batches(rows, copies) for rows, copies, _ in zones) * model
    yield "base states", "update", sum(forward(scale, rows, copies) for rows, copies, _ in zones), read
    training = sum(forward(scale, rows, copies, scale.factor_columns(there)) for (rows, copies, _), there in zip(zones, present))
    yield "training, forward", "update", training, read
    yield "training, backward", "update", sum(backward(scale, rows, copies, blocks) for rows, copies, blocks in zones), read


def resident(scale: Scale) -> dict[str, float]:
    """Bytes that a step holds, activations left out."""
    s = scale.shape
    factors = 2 * scale.rank * s.widths  # A and B of both blocks
    length = scale.prompt + scale.completion
    rows = min(scale.sampled_rows, scale.rollouts)
    shared, tokens = scale.row(scale.group)
    logits = min(LOGIT_TOKENS, max(1, scale.micro_tokens // tokens) * shared * scale.completion)
    merged = {"merged weights, of each sampled state": len(scale.states) * scale.weight_bytes * s.weights} if scale.merged else {}
    if scale.merged_layers:
        merged["merged weights of the training passes: deployed, both, quarantine"] = 3 * scale.weight_bytes * s.weights
    return {
        "base weights": scale.weight_bytes * (s.weights + s.head),
        **merged,
        "adapter, fp32: initialization, differences, gradients, two moments": 4 * 5 * factors,
        "cached keys and values of the completions decoded at once": scale.weight_bytes * s.cache * rows * length,
        "log-probabilities that exist at once, fp32: policy, base, their KL, and two gradients": 5 * 4 * logits * scale.config.vocab_size,
    }


def llama(layers: int, width: int, heads: int, kv_heads: int, mlp: int, vocab: int) -> LlamaConfig:
    return LlamaConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=mlp, vocab_size=vocab, tie_word_embeddings=True,
    )  # fmt: skip


QWEN3_4B = Qwen3Config(
    num_hidden_layers=36, hidden_size=2560, num_attention_heads=32, num_key_value_heads=8, head_dim=128,
    intermediate_size=9728, vocab_size=151936, tie_word_embeddings=True,
)  # fmt: skip
QWEN3_32B = Qwen3Config(
    num_hidden_layers=64, hidden_size=5120, num_attention_heads=64, num_key_value_heads=8, head_dim=128,
    intermediate_size=25600, vocab_size=151936, tie_word_embeddings=False,
)  # fmt: skip
TOY = llama(4, 128, 4, 4, 384, 625)
SMOLLM2 = llama(30, 576, 9, 3, 1536, 49152)
SCALES = {
    "toy": Scale(TOY, 4, 8, 8, 8, 0.25, 0.1, 24, 27, 2048, False, True, 1024),  # as bench.step runs it
    "smollm2": Scale(SMOLLM2, 4, 8, 8, 8, 0.25, 0.1, 102, 72, 2048, False, True, 64),
    "qwen3_4b": Scale(QWEN3_4B, 2, 16, 16, 16, 0.25, 0.1, 500, 1536, 16384, True, False, 64),
    "qwen3_32b": Scale(QWEN3_32B, 2, 16, 16, 16, 0.25, 0.1, 500, 1536, 16384, True, False, 64),
}
UNITS = {"toy": ("GFLOP", 1e9, "GB", 1e9), "smollm2": ("TFLOP", 1e12, "GB", 1e9), "qwen3_4b": ("PFLOP", 1e15, "TB", 1e12), "qwen3_32b": ("PFLOP", 1e15, "TB", 1e12)}


def tables() -> str:
    """The tables of docs/scaling.md, Markdown."""
    parts = []
    for name, scale in SCALES.items():
        operations, per_operation, amount, per_amount = UNITS[name]
        lines = [f"### {name}", "", f"| pass | {operations} | {amount} read |", "|---|---|---|"]
        rows = list(passes(scale))
        lines += [f"| {what} | {flop / per_operation:.3g} | {read / per_amount:.3g} |" for what, _, flop, read in rows]
        total, read = sum(row[2] for row in rows), sum(row[3] for row in rows)
        lines += [f"| **one step** | **{total / per_operation:.3g}** | **{read / per_amount:.3g}** |", ""]
        lines += ["| held during a step | GB |", "|---|---|"]
        lines += [f"| {what} | {size / 1e9:.3g} |" for what, size in resident(scale).items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(tables())
