"""Initializations of the adapter: what each layer's frozen tensors are, drawn or computed, stored and checked.

| adapter.init    | frozen tensors of a layer                                                                      |
|-----------------|------------------------------------------------------------------------------------------------|
| gaussian        | A0 ~ N(0, 1/d_in), B0 ~ N(0, 1/2r)                                                             |
| pissa           | top 2r singular directions of W: rows of A0 right vectors, columns of B0 left vectors          |
| corda           | the same of W C^(1/2), C the second moment of the paired input differences; A0 of V' C^(-1/2)  |
| scorda          | pissa with the first quarantine slot replaced by the mean paired input difference and its      |
|                 | image under W, and every other slot made orthogonal to these                                   |
| scorda_reversed | the same with the first deployed slot                                                          |
| antipasto       | U, S, Vh: the top 2r of the SVD of W, for the parametrization of antipasto.py                  |

Even singular directions (from 0) go to the deployed block, odd ones to the quarantine. Rows of A0 and columns of B0 are
unit vectors in every initialization but the gaussian one. Singular vectors are computed in double precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from projected_grpo.core.seeds import derive_seed
from projected_grpo.policy.adapter import DEPLOYED, QUARANTINE, target_layers
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.layout import Layout, lay_out
from projected_grpo.policy.origin import AdapterError, Origin, digest, load_tensors, save_tensors
from projected_grpo.settings.arm import Adapter

INIT_FILE = "init.safetensors"
FROM_PAIRS = ("corda", "scorda", "scorda_reversed")  # the initializations that read the pairs
RIDGE = 1e-3  # of corda's C, as a share of its mean eigenvalue

Parts = dict[str, Tensor]


@dataclass(frozen=True)
class Initialization:
    origin: Origin
    layers: dict[str, Parts]  # layer, in sorted order -> its frozen tensors


def initialize(
    model: nn.Module, adapter: Adapter, differences: Mapping[str, Float[Tensor, "P d_in"]]
) -> Initialization:
    """The initialization that the settings name. `differences` holds, for those made from pairs, each layer's
    pooled inputs of the hack sides minus those of the clean sides. Raises AdapterError."""
    layers = {}
    for name, layer in target_layers(model).items():
        try:
            layers[name] = _layer_init(layer.weight, adapter, name, differences)
        except AdapterError as error:
            raise AdapterError(f"adapter.init={adapter.init}: layer '{name}': {error}") from error
    return Initialization(Origin(adapter, digest(model), uses_ground_truth=False), layers)


def _layer_init(weight: Tensor, adapter: Adapter, name: str, differences: Mapping[str, Tensor]) -> Parts:
    match adapter.init:
        case "gaussian":
            return gaussian(weight, adapter.rank, derive_seed(adapter.seed, "adapter", name))
        case "pissa":
            return pissa(weight, adapter.rank)
        case "corda":
            return corda(weight, adapter.rank, differences[name])
        case "scorda":
            return scorda(weight, adapter.rank, differences[name], QUARANTINE)
        case "scorda_reversed":
            return scorda(weight, adapter.rank, differences[name], DEPLOYED)
        case "antipasto":
            return antipasto(weight, adapter.rank)


def gaussian(weight: Float[Tensor, "d_out d_in"], rank: int, seed: int) -> Parts:
    d_out, d_in = weight.shape
    rng = torch.Generator().manual_seed(seed)
    a0 = torch.randn(2 * rank, d_in, generator=rng) / d_in**0.5
    b0 = torch.randn(d_out, 2 * rank, generator=rng) / (2 * rank) ** 0.5
    return {"A0": a0, "B0": b0}


def pissa(weight: Float[Tensor, "d_out d_in"], rank: int) -> Parts:
    U, _, Vh = _split_svd(weight.double(), rank)
    return _stored(A0=Vh, B0=U)


def corda(weight: Float[Tensor, "d_out d_in"], rank: int, difference: Float[Tensor, "P d_in"]) -> Parts:
    """C = D'D/P + ridge I = R diag(s^2) R' + ridge I has few directions R with s > 0, so C^p is a multiple of I plus a
    correction within them, and no matrix of d_in x d_in is formed."""
    W, D = weight.double(), _seen(difference) / len(difference) ** 0.5
    _, s, Rh = torch.linalg.svd(D, full_matrices=False)
    ridge = RIDGE * s.square().sum() / W.shape[1]

    def times_power_of_c(M: Tensor, p: float) -> Tensor:
        return ridge**p * M + (M @ Rh.T) * ((s.square() + ridge) ** p - ridge**p) @ Rh

    U, _, Vh = _split_svd(times_power_of_c(W, 0.5), rank)
    return _stored(A0=normalize(times_power_of_c(Vh, -0.5), dim=1), B0=U)


def scorda(weight: Float[Tensor, "d_out d_in"], rank: int, difference: Float[Tensor, "P d_in"], block: int) -> Parts:
    """The seed, the mean difference u_in and its image u_out, in the first slot of `block`."""
    W, u_in = weight.double(), normalize(_seen(difference.mean(0)), dim=0)
    u_out = normalize(W @ u_in, dim=0)
    U, _, Vh = _split_svd(W, rank)
    A0 = normalize(Vh - (Vh @ u_in)[:, None] * u_in, dim=1)
    B0 = normalize(U - u_out[:, None] * (u_out @ U), dim=0)
    slot = block * rank
    A0[slot], B0[:, slot] = u_in, u_out
    return _stored(A0=A0, B0=B0)


def antipasto(weight: Float[Tensor, "d_out d_in"], rank: int) -> Parts:
    U, S, Vh = _split_svd(weight.double(), rank)
    return _stored(U=U, S=S, Vh=Vh)


def _split_svd(matrix: Float[Tensor, "d_out d_in"], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, S, Vh of the top 2r singular directions: even ones, which deploy, then odd ones. Raises AdapterError."""
    found = min(matrix.shape)
    if 2 * rank > found:
        raise AdapterError(f"has {found} singular directions, but 2 x adapter.rank is {2 * rank}; lower adapter.rank")
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    order = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)]
    return U[:, order], S[order], Vh[order]


def _seen(difference: Tensor) -> Tensor:
    """In double precision. Raises AdapterError where the layer sees no difference between the pairs' sides."""
    if not difference.any():
        raise AdapterError("its input does not differ between the pairs' sides; author pairs whose sides differ")
    return difference.double()


def _stored(**parts: Tensor) -> Parts:
    return {name: part.float().contiguous() for name, part in parts.items()}


def input_differences(
    model: nn.Module, hack: TokenBatch, clean: TokenBatch, micro_tokens: int
) -> dict[str, Float[Tensor, "P d_in"]]:
    """Each target layer's pooled input in the base model, hack sides minus clean sides, pair by pair."""
    one, other = (_pool_inputs(model, side, micro_tokens) for side in (hack, clean))
    return {name: one[name] - other[name] for name in one}


@torch.no_grad()
def _pool_inputs(model: nn.Module, batch: TokenBatch, micro_tokens: int) -> dict[str, Float[Tensor, "P d_in"]]:
    """Each target layer's input, averaged over the completion's positions."""
    parts = list(lay_out(batch, micro_tokens, lambda *lengths: 1))
    found = [_read_inputs(model, layout.to(model.device)) for layout in parts]
    restore = torch.cat([layout.index for layout in parts]).argsort()
    return {name: torch.cat([part[name] for part in found])[restore] for name in target_layers(model)}


def _read_inputs(model: nn.Module, layout: Layout) -> Parts:
    pooled = {}

    def record(name: str):
        return lambda layer, args: pooled.update({name: layout.pool(args[0])})

    hooks = [layer.register_forward_pre_hook(record(name)) for name, layer in target_layers(model).items()]
    model.model(layout.tokens, use_cache=False)
    for hook in hooks:
        hook.remove()
    return pooled


def save_init(init: Initialization, folder: Path) -> None:
    tensors = {f"{name}.{part}": tensor for name, parts in init.layers.items() for part, tensor in parts.items()}
    save_tensors(folder / INIT_FILE, tensors, init.origin)


def load_init(folder: Path, adapter: Adapter) -> Initialization:
    """The initialization that init_adapter wrote. Raises AdapterError where it was made with other settings."""
    path, layers = folder / INIT_FILE, {}
    tensors, origin = load_tensors(path, "init_adapter")
    origin.check(replace(origin, adapter=adapter), str(path), "init_adapter")
    for key, tensor in tensors.items():
        name, part = key.rsplit(".", 1)
        layers.setdefault(name, {})[part] = tensor
    return Initialization(origin, layers)
