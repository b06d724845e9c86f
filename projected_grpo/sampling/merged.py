"""The Llama family with the adapter merged into its weights, for rows of several adapter states beside each other.

A layer has weights of each sampled state and applies them to the rows of that state, which lie beside each other. All else,
which no state changes, runs once for all rows. Embeddings, norms and head are the policy's own; only merged weights are held
besides.

A decode step of a small model is as long as its operations are many, so this forward pass has half of those of transformers:
layers that read the same input are one product, and a product adds to the residual stream in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, get_args

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn, split_with_sizes
from torch.nn.functional import embedding, rms_norm, scaled_dot_product_attention, silu
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from projected_grpo.policy.adapter import BOTH, DEPLOYED_ALONE
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.protocol import SamplingError, State

STATES: tuple[State, ...] = get_args(State)
BLOCKS = {"full": BOTH, "deployed": DEPLOYED_ALONE}
KNOWN = {  # of a model's config, what this forward pass computes
    "model_type": ("llama", "qwen3"),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "rope_type": ("default", "llama3"),
}


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
    """The weights (d_in, d_out) of a decoder layer in one state. Layers that read the same input lie beside each other, and are times
    the weight of the norm before them."""

    qkv: Tensor
    o: Tensor
    gate_up: Tensor
    down: Tensor


class Merged:
    def __init__(self, policy: Policy) -> None:
        """Raises SamplingError where the base model is of another family."""
        config, device = policy.base.model.config, policy.base.device
        require_known({**config.to_dict(), **config.rope_parameters})
        self.policy, self.model = policy, policy.base.model.model
        attention = self.model.layers[0].self_attn
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_width, self.scaling, self.eps = attention.head_dim, attention.scaling, config.rms_norm_eps
        self.order = torch.arange(self.head_width, device=device).view(2, -1).T.flatten()  # of a head: numbers that rotate together in turn
        self.rotations = torch.empty(0, self.head_width // 2, dtype=torch.complex64, device=device)
        self.head_norms = [self._head_norm(layer.self_attn) for layer in self.model.layers]
        self.weights: list[dict[State, Fused]] = [{} for _ in self.model.layers]
        self.average = torch.full((config.hidden_size, 1), 1 / config.hidden_size, device=device)
        self.floor, self.seen, self.unseen = (torch.tensor(x, device=device) for x in (self.eps, 0.0, torch.finfo(torch.float32).min))

    def _head_norm(self, attention: nn.Module) -> Float[Tensor, "heads d"] | None:
        """The weights with which query heads and then key heads are normed, where the family does so."""
        if not hasattr(attention, "q_norm"):
            return None
        weights = attention.q_norm.weight.expand(self.heads, -1), attention.k_norm.weight.expand(self.kv_heads, -1)
        return torch.cat(weights)[:, self.order]

    @torch.no_grad()
    def merge(self, states: set[State]) -> None:
        """Hold the weights of these states of the policy as it is now, and of no other."""
        for place in range(len(self.weights)):
            self.weights[place] = {state: self._fused(place, state) for state in states}

    def _fused(self, place: int, state: State) -> Fused:
        decoder = self.model.layers[place]

        def weight(name: str) -> Float[Tensor, "d_out d_in"]:
            layer = decoder.get_submodule(name)
            return layer.base.weight if state == "base" else layer.merged(BLOCKS[state])

        def ordered(name: str) -> Float[Tensor, "d_out d_in"]:
            return weight(name).unflatten(0, (-1, self.head_width))[:, self.order].flatten(0, 1)

        qkv = torch.cat([ordered("self_attn.q_proj"), ordered("self_attn.k_proj"), weight("self_attn.v_proj")])
        gate_up = torch.cat([weight("mlp.gate_proj"), weight("mlp.up_proj")])
        return Fused(
            qkv.mul_(decoder.input_layernorm.weight).T,
            weight("self_attn.o_proj").T,
            gate_up.mul_(decoder.post_attention_layernorm.weight).T,
            weight("mlp.down_proj").T,
        )

    def logits(
        self, tokens: Int[Tensor, "R T"], mask: Bool[Tensor, "R ..."], position: Int[Tensor, "R T"], cache: Cache, states: StateRows
    ) -> Float[Tensor, "R V"]:
        """After the last of the tokens, whose keys and values join the cache. The mask's last dimension is that of cached and new tokens."""
        rows, length = tokens.shape
        split = [count * length for count in states.sizes.values()]
        weights = [[held[state] for state in states.sizes] for held in self.weights]
        x = embedding(tokens.flatten(), self.model.embed_tokens.weight)
        qkv, gate_up = (x.new_empty(len(x), weight.shape[1]) for weight in (weights[0][0].qkv, weights[0][0].gate_up))
        x_parts, qkv_parts, gate_up_parts = (split_with_sizes(whole, split) for whole in (x, qkv, gate_up))
        gate, up = gate_up.chunk(2, -1)
        attention = Attention(self, qkv.view(rows, length, -1, self.head_width), mask, position)
        for head_norm, held, cached in zip(self.head_norms, weights, cache.layers, strict=True):
            for part, into, own in zip(split_with_sizes(self._normed(x), split), qkv_parts, held):
                torch.mm(part, own.qkv, out=into)
            for part, into, own in zip(split_with_sizes(attention(cached, head_norm), split), x_parts, held):
                into.addmm_(part, own.o)
            for part, into, own in zip(split_with_sizes(self._normed(x), split), gate_up_parts, held):
                torch.mm(part, own.gate_up, out=into)
            for part, into, own in zip(split_with_sizes(silu(gate).mul_(up), split), x_parts, held):
                into.addmm_(part, own.down)
        last = x.view(rows, length, -1)[:, -1]
        return self.policy.base.model.lm_head(self._normed(last) * self.model.norm.weight)

    def _normed(self, x: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        """Divided by its root mean square. torch's own takes three times as many operations on the CPU."""
        return x * torch.addmm(self.floor, x * x, self.average).rsqrt_()

    def rotation(self, position: Int[Tensor, "R T"], longest: int) -> Complex[Tensor, "R T 1 pairs"]:
        """By which a head's pairs are multiplied at each position. All positions are below `longest`."""
        if longest > len(self.rotations):
            cos, sin = self.model.rotary_emb(self.average, torch.arange(2 * longest, device=position.device)[None])
            self.rotations = torch.complex(cos, sin)[0, :, : self.head_width // 2]
        return self.rotations[position][:, :, None]


class Attention:
    """Of one forward pass, in one layer after the other, each of which has its queries, keys and values in `qkv`."""

    def __init__(self, model: Merged, qkv: Float[Tensor, "R T all d"], mask: Bool[Tensor, "R ..."], position: Int[Tensor, "R T"]) -> None:
        self.model, (self.rows, self.length) = model, qkv.shape[:2]
        self.heads, self.group = (model.heads, model.kv_heads), model.heads // model.kv_heads
        self.qk, v = qkv.split((sum(self.heads), model.kv_heads), 2)
        self.pairs, self.v = pairs(self.qk), v.transpose(1, 2)
        self.rotation = model.rotation(position, mask.shape[-1])
        seen = mask.view(self.rows, 1, 1, -1)
        if self.length > 1:
            seen = seen & torch.ones(self.length, self.length, dtype=torch.bool, device=mask.device).tril()
        self.bias = torch.where(seen, model.seen, model.unseen)
        if self.length == 1:
            self.bias = self.bias.expand(-1, model.kv_heads, self.group, -1).flatten(0, 1)

    def __call__(self, cached: DynamicLayer, head_norm: Float[Tensor, "heads d"] | None) -> Float[Tensor, "RT heads_d"]:
        """Of one new token, query heads that share keys and values are rows of one product, which reads these once."""
        rotated = self.pairs
        if head_norm is not None:
            rotated = pairs(rms_norm(self.qk, head_norm.shape[1:], None, self.model.eps) * head_norm)
        q, k = torch.view_as_real(rotated * self.rotation).flatten(-2).split(self.heads, 2)
        keys, values = cached.update(k.transpose(1, 2), self.v)
        if self.length > 1:
            keys, values = (held.repeat_interleave(self.group, 1) for held in (keys, values))
            found = scaled_dot_product_attention(q.transpose(1, 2), keys, values, self.bias, scale=self.model.scaling)
            return found.transpose(1, 2).reshape(self.rows * self.length, -1)
        grouped = q.reshape(len(self.bias), self.group, -1)
        scores = torch.baddbmm(self.bias, grouped, keys.flatten(0, 1).mT, alpha=self.model.scaling)
        return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view(self.rows, -1)


def pairs(heads: Float[Tensor, "R T heads d"]) -> Complex[Tensor, "R T heads pairs"]:
    """Two numbers that rotate together are one complex number."""
    return torch.view_as_complex(heads.unflatten(-1, (-1, 2)))


def require_known(config: dict) -> None:
    for key, known in KNOWN.items():
        found = config.get(key, known[0])
        if found not in known:
            raise SamplingError(
                f"sampling.engine is merged, and the base model's {key} is {found!r}; merged weights are sampled where it is "
                f"{' or '.join(map(repr, known))}; set sampling.engine=adapted"
            )
