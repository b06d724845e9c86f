"""The decode loop on a GPU: one step is captured as a CUDA graph and replayed, so no kernel is launched from Python.

A graph has fixed addresses and shapes. Keys and values have room for the longest completion, and rows that ended go on
until all have; what they draw is not recorded.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, Cache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from projected_grpo.sampling.decode import Decoded, Distribution, Forward, Prefilled

EAGER_STEPS = 2  # before the capture; libraries set themselves up in the first
LOOK_EVERY = 16  # steps between looks at whether all rows have ended
GROUPED = "grouped_decode"


def decode_in_graph(forward: Forward, start: Prefilled, distribution: Distribution, config: PreTrainedConfig) -> Decoded:
    """The same as `decode`. `config` is that of the model which `forward` runs."""
    with fixed_kernels(config):
        decoding = Decoding(forward, start, distribution)
        longest = start.uniform.shape[1]
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(min(EAGER_STEPS, longest)):
                decoding.step()
        current.wait_stream(stream)
        if longest > EAGER_STEPS:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                decoding.step()
        for step in range(EAGER_STEPS, longest):
            if step % LOOK_EVERY == 0 and not decoding.running.any():
                break
            graph.replay()
    return Decoded(decoding.tokens, decoding.logprob, decoding.length)


class Decoding:
    """What a step reads and writes, all of it in place."""

    def __init__(self, forward: Forward, start: Prefilled, distribution: Distribution) -> None:
        self.forward, self.distribution, self.states, self.uniform = forward, distribution, start.states, start.uniform
        (rows, longest), (_, prompt), device = start.uniform.shape, start.mask.shape, start.logits.device
        self.logits = start.logits.clone()
        self.step_index = torch.zeros(1, dtype=torch.long, device=device)
        self.column = torch.full((1,), prompt, device=device)  # of the cache, where the step's keys and values go
        self.position = start.mask.sum(1, keepdim=True)
        self.mask = torch.zeros(rows, 1, 1, prompt + longest, dtype=torch.bool, device=device)
        self.mask[:, 0, 0, :prompt] = start.mask.bool()
        self.cache = Cache(layers=[FixedLayer(layer, start.prompt, longest, self.column) for layer in start.cache.layers])
        start.cache.layers.clear()  # the prompts' own keys and values are not read again
        self.tokens = torch.zeros(rows, longest, dtype=torch.long, device=device)
        self.logprob = torch.zeros(rows, longest, device=device)
        self.length = torch.zeros(rows, dtype=torch.long, device=device)
        self.running = torch.ones(rows, dtype=torch.bool, device=device)

    def step(self) -> None:
        chosen, chance = self.distribution.draw(self.logits, self.uniform.index_select(1, self.step_index)[:, 0])
        self.tokens.index_copy_(1, self.step_index, (chosen * self.running)[:, None])
        self.logprob.index_copy_(1, self.step_index, (chance * self.running)[:, None])
        self.length += self.running
        self.running &= self.distribution.goes_on(chosen)
        self.mask.index_fill_(3, self.column, True)
        self.logits.copy_(self.forward(chosen[:, None], self.mask, self.position, self.cache, self.states))
        for counter in (self.step_index, self.column, self.position):
            counter += 1


class FixedLayer(DynamicLayer):
    """Keys and values of one layer, each row's those of its `prompt`, with room for `longest` tokens more; a step's own go
    into `column`."""

    def __init__(self, prefilled: DynamicLayer, prompt: Tensor, longest: int, column: Tensor) -> None:
        super().__init__()
        self.keys, self.values = (_with_room(held, prompt, longest) for held in (prefilled.keys, prefilled.values))
        self.column, self.is_initialized = column, True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.keys.index_copy_(2, self.column, key_states)
        self.values.index_copy_(2, self.column, value_states)
        return self.keys, self.values


def _with_room(held: Tensor, prompt: Tensor, longest: int) -> Tensor:
    _, heads, filled, width = held.shape
    buffer = held.new_zeros(len(prompt), heads, filled + longest, width)  # what is masked must still be finite
    buffer[:, :, :filled] = held[prompt]
    return buffer


def grouped_decode(
    module: nn.Module,
    query: Float[Tensor, "R heads 1 d"],
    key: Float[Tensor, "R kv T d"],
    value: Float[Tensor, "R kv T d"],
    attention_mask: Bool[Tensor, "R 1 1 T"],
    scaling: float,
    **kwargs,
) -> tuple[Float[Tensor, "R 1 heads d"], None]:
    """Attention of one new token. Query heads that share keys and values are rows of one product, which reads these once;
    transformers copies them for each head."""
    rows, heads, _, width = query.shape
    grouped = query.reshape(rows, key.shape[1], -1, width)
    seen = attention_mask.expand(-1, key.shape[1], grouped.shape[2], -1)
    return scaled_dot_product_attention(grouped, key, value, attn_mask=seen, scale=scaling).reshape(rows, 1, heads, width), None


AttentionInterface.register(GROUPED, grouped_decode)


@contextmanager
def fixed_kernels(config: PreTrainedConfig) -> Iterator[None]:
    """Attention of one token; and kernels that torch does not call deterministic: those that write at an index, of which none
    occurs twice here, and the cumulative sum, of which it has no other on a GPU."""
    attention, strict = config._attn_implementation, torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    config._attn_implementation = GROUPED
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        config._attn_implementation = attention
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
