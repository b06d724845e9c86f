"""The Llama family with the adapter merged into its weights, for rows of several adapter states beside each other.

A layer has weights of each sampled state and applies them to the rows of that state, which lie beside each other. All else,
which no state changes, runs once for all rows. Embeddings, norms and head are the policy's own; only merged weights are held
besides. transformers' forward pass spends most of a small model's decode step between its operations, so this one has few:
layers that read the same input are one product, and a product adds to the residual stream in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, get_args

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn, split_with_sizes
from torch.nn.functional import embedding, rms_norm, scaled_dot_product_attention, silu
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from projected_grpo.policy.adapter import BOTH, DEPLOYED_ALONE
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.protocol import SamplingError, State

STATES: tuple[State, ...] = get_args(State)
BLOCKS = {"full": BOTH, "deployed": DEPLOYED_ALONE}
KNOWN = {  # of a model's config: what this forward pass computes
    "model_type": ("llama", "qwen3"),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "rope_type": ("default", "llama3"),
}
ROTATED = ("self_attn.q_proj", "self_attn.k_proj")


@dataclass(frozen=True)
class StateRows:
    """The state of each row, an index into STATES that never falls from one row to the next. It stays on the CPU, wherever the rows are."""

    index: Int[Tensor, " R"]

    @classmethod
    def of(cls, states: Sequence[State]) -> "StateRows":
        return cls(torch.tensor([STATES.index(state) for state in states]))

    def select(self, rows: Tensor) -> "StateRows":
        return StateRows(self.index[rows.cpu()])

    @cached_property
    def sizes(self) -> dict[State, int]:
        """Rows of each state that has any, in the order of the rows."""
        return {state: count for state, count in zip(STATES, torch.bincount(self.index, minlength=len(STATES)).tolist()) if count}


class Fused(NamedTuple):
    """Weights (d_in, d_out) of a decoder layer; those that read the same input lie beside each other."""

    qkv: Tensor
    o: Tensor
    gate_up: Tensor
    down: Tensor


PARTS = Fused(
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",), ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",)
)


class Merged:
    def __init__(self, policy: Policy) -> None:
        """Raises SamplingError where the base model is not of the known families."""
        config = policy.base.model.config
        require_known({**config.to_dict(), **config.rope_parameters})
        self.policy, self.model = policy, policy.base.model.model
        attention, device, width = self.model.layers[0].self_attn, policy.base.device, config.hidden_size
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width, self.scaling = attention.head_dim, attention.scaling
        self.pairs = torch.arange(self.width, device=device).view(2, -1).T.flatten()
        self.rotations = torch.empty(0, self.width // 2, dtype=torch.complex64, device=device)
        self.mean, self.eps = torch.full((width, 1), 1 / width, device=device), torch.tensor(config.rms_norm_eps, device=device)
        self.head_norms = [self._head_norm(layer.self_attn) for layer in self.model.layers]
        self.weights: list[dict[State, Fused]] = [{} for _ in self.model.layers]

    def _head_norm(self, attention: nn.Module) -> Float[Tensor, "heads d"] | None:
        """Weight of the norm of each query head, then of each key head, where the family has one."""
        if not hasattr(attention, "q_norm"):
            return None
        weights = attention.q_norm.weight.expand(self.heads, -1), attention.k_norm.weight.expand(self.kv_heads, -1)
        return torch.cat(weights)[:, self.pairs]

    @torch.no_grad()
    def merge(self, states: set[State]) -> None:
        """Hold the weights of these states of the policy as it is now, and of no other."""
        for place in range(len(self.weights)):
            self.weights[place] = {state: self._fused(f"model.layers.{place}.", state) for state in states}

    def _fused(self, prefix: str, state: State) -> Fused:
        def weight(name: str) -> Tensor:
            layer = self.policy.layers[prefix + name]
            found = layer.base.weight if state == "base" else layer.merged(BLOCKS[state])
            return found.view(-1, self.width, found.shape[1])[:, self.pairs].view_as(found) if name in ROTATED else found

        return Fused(*(torch.cat([weight(name) for name in names]).T for names in PARTS))

    def logits(
        self, tokens: Int[Tensor, "R T"], mask: Tensor, position: Int[Tensor, "R T"], cache: Cache, states: StateRows
    ) -> Float[Tensor, "R V"]:
        """After the last of the tokens, whose keys and values join the cache."""
        hidden = self.hidden(tokens, mask, position, cache, states)[:, -1]
        return self.policy.base.model.lm_head(self._norm(hidden, self.model.norm))

    def hidden(
        self, tokens: Int[Tensor, "R T"], mask: Tensor, position: Int[Tensor, "R T"], cache: Cache, states: StateRows
    ) -> Float[Tensor, "R T d"]:
        """Before the last norm. `mask` is true where a row has one of the cached and new tokens, which are its last dimension."""
        rows, length = tokens.shape
        split = [count * length for count in states.sizes.values()]
        weights = [[held[state] for state in states.sizes] for held in self.weights]
        x = embedding(tokens.flatten(), self.model.embed_tokens.weight)
        qkv, gate_up = (x.new_empty(len(x), weight.shape[1]) for weight in (weights[0][0].qkv, weights[0][0].gate_up))
        x_parts, qkv_parts, gate_up_parts = (split_with_sizes(held, split) for held in (x, qkv, gate_up))
        gate, up = gate_up.chunk(2, -1)
        attention = Attention(self, qkv.view(rows, length, -1, self.width), mask, position)
        for layer, head_norm, held, cached in zip(self.model.layers, self.head_norms, weights, cache.layers, strict=True):
            for part, into, own in zip(split_with_sizes(self._norm(x, layer.input_layernorm), split), qkv_parts, held):
                torch.mm(part, own.qkv, out=into)
            for part, into, own in zip(split_with_sizes(attention(cached, head_norm), split), x_parts, held):
                into.addmm_(part, own.o)
            for part, into, own in zip(split_with_sizes(self._norm(x, layer.post_attention_layernorm), split), gate_up_parts, held):
                torch.mm(part, own.gate_up, out=into)
            for part, into, own in zip(split_with_sizes(silu(gate).mul_(up), split), x_parts, held):
                into.addmm_(part, own.down)
        return x.view(rows, length, -1)

    def rotation(self, position: Int[Tensor, "R T"], longest: int) -> Complex[Tensor, "R T 1 pairs"]:
        """Of the pairs of a head at each position. `longest` exceeds all positions."""
        if longest > len(self.rotations):
            cos, sin = self.model.rotary_emb(self.mean, torch.arange(2 * longest, device=position.device)[None])
            self.rotations = torch.complex(cos[0], sin[0])[:, : self.width // 2]
        return self.rotations[position][:, :, None]

    def _norm(self, x: Float[Tensor, "N d"], norm: nn.Module) -> Float[Tensor, "N d"]:
        """torch's own on the CPU is of many more operations."""
        return (x * torch.addmm(self.eps, x * x, self.mean).rsqrt_()).mul_(norm.weight)


class Attention:
    """Of one forward pass, in one layer after the other, each of which writes its queries, keys and values into `qkv`."""

    def __init__(self, model: Merged, qkv: Float[Tensor, "R T all d"], mask: Tensor, position: Int[Tensor, "R T"]) -> None:
        self.model, (self.rows, self.length) = model, qkv.shape[:2]
        self.heads = model.heads, model.kv_heads
        self.qk, v = qkv.split((sum(self.heads), model.kv_heads), 2)
        self.v = v.transpose(1, 2)
        self.rotation = model.rotation(position, mask.shape[-1])
        seen = mask.view(self.rows, 1, 1, -1)
        if self.length > 1:
            seen = seen & torch.ones(self.length, self.length, dtype=torch.bool, device=mask.device).tril()
        self.bias = torch.zeros(seen.shape, device=mask.device).masked_fill_(~seen, torch.finfo(torch.float32).min)
        if self.length == 1:
            self.bias = self.bias.expand(-1, model.kv_heads, model.heads // model.kv_heads, -1).flatten(0, 1)

    def __call__(self, cached: DynamicLayer, head_norm: Float[Tensor, "heads d"] | None) -> Float[Tensor, "RT heads_d"]:
        """Of one new token, query heads that share keys and values are rows of one product, which reads these once."""
        qk = self.qk if head_norm is None else rms_norm(self.qk, head_norm.shape[1:], None, self.model.eps.item()) * head_norm
        pairs = torch.view_as_complex(qk.unflatten(-1, (-1, 2))) * self.rotation
        q, k = torch.view_as_real(pairs).flatten(-2).split(self.heads, 2)
        keys, values = cached.update(k.transpose(1, 2), self.v)
        if self.length > 1:
            found = scaled_dot_product_attention(
                q.transpose(1, 2), keys, values, self.bias, scale=self.model.scaling, enable_gqa=len(set(self.heads)) > 1
            )
            return found.transpose(1, 2).reshape(self.rows * self.length, -1)
        grouped = q.reshape(len(self.bias), -1, self.model.width)
        scores = torch.baddbmm(self.bias, grouped, keys.flatten(0, 1).mT, alpha=self.model.scaling)
        return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view(self.rows, -1)


def require_known(config: dict) -> None:
    for key, known in KNOWN.items():
        found = config.get(key, known[0])
        if found not in known:
            raise SamplingError(
                f"sampling.engine is merged, and the base model's {key} is {found!r}; merged weights are sampled where it is "
                f"{' or '.join(map(repr, known))}; set sampling.engine=adapted"
            )
