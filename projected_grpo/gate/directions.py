"""Directions in the deployed block's bottleneck: v_act from pairs, and Haar-random draws of the same shape.

A direction is one unit vector of r numbers for each adapted layer, stored in the table directions.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from projected_grpo.errors import InputError
from projected_grpo.parquet import read_rows
from projected_grpo.policy.base import Base
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.problems.prompts import render_pair
from projected_grpo.seeds import derive_seed
from projected_grpo.tables import DIRECTIONS


class DirectionError(InputError):
    """A direction file that does not fit the model; the message names the file and the module."""


def v_act(hack: Float[Tensor, "P M r"], clean: Float[Tensor, "P M r"]) -> Float[Tensor, "M r"]:
    """Mean over pairs of the difference of pooled activations, unit norm for each module."""
    difference = (hack - clean).mean(0)
    norms = difference.norm(dim=-1)
    if not (norms > 0).all():
        raise DirectionError(f"v_act: {int((norms == 0).sum())} modules see no difference between the pairs' sides")
    return difference / norms[:, None]


def haar(modules: int, rank: int, draws: int, seed: int) -> Float[Tensor, "K M r"]:
    """Independent draws, each module's vector uniform on the unit sphere. Draw k does not depend on how many follow."""
    rng = [torch.Generator().manual_seed(derive_seed(seed, "haar", k)) for k in range(draws)]
    return torch.stack([normalize(torch.randn(modules, rank, generator=g), dim=-1) for g in rng])


def pool_pairs(
    policy: Policy, prompts: Sequence[list[int]], completions: Sequence[list[int]], micro_batch: int
) -> Float[Tensor, "P M r"]:
    """Pooled deployed-block bottlenecks of one side of the pairs, with the quarantine ablated."""
    batch = TokenBatch.collate(prompts, completions)
    order = batch.micro_batches(micro_batch)
    pooled = torch.cat([policy.read_deployed(batch.select(index))[0] for index in order])
    return pooled[torch.cat(order).argsort()]


def pair_sides(base: Base, pairs: Sequence[dict]) -> dict[str, list[list[int]]]:
    """Token ids of each pair's prompt and of its two sides, each ended with the end token."""
    return {
        "prompt": [render_pair(base, pair["prompt"]) for pair in pairs],
        "hack": [base.encode(pair["hack"]) + [base.eos_id] for pair in pairs],
        "clean": [base.encode(pair["clean"]) + [base.eos_id] for pair in pairs],
    }


def extract_v_act(policy: Policy, sides: dict[str, list[list[int]]], micro_batch: int) -> Float[Tensor, "M r"]:
    """v_act under the policy's current weights. `sides` holds token ids of `prompt`, `hack` and `clean`, pair by pair."""
    hack = pool_pairs(policy, sides["prompt"], sides["hack"], micro_batch)
    clean = pool_pairs(policy, sides["prompt"], sides["clean"], micro_batch)
    return v_act(hack, clean)


def direction_rows(name: str, draw: int, modules: Sequence[str], direction: Float[Tensor, "M r"]) -> list[dict]:
    return [
        {"direction": name, "draw": draw, "module": module, "vector": vector.tolist()}
        for module, vector in zip(modules, direction, strict=True)
    ]


def load_directions(path: Path, modules: Sequence[str], rank: int) -> Float[Tensor, "K M r"]:
    """All draws of the file direction.parquet in a folder named for its direction, modules in the given order.

    Raises DirectionError where a module is missing, unknown or of another rank, or a vector is not of unit norm.
    """
    draws: dict[int, dict[str, list[float]]] = {}
    for row in read_rows(path, DIRECTIONS):
        if row["direction"] != path.parent.name:
            raise DirectionError(f"{path}: holds the direction '{row['direction']}', expected '{path.parent.name}'")
        draws.setdefault(row["draw"], {})[row["module"]] = row["vector"]
    if not draws:
        raise DirectionError(f"{path}: holds no direction")
    for draw, vectors in draws.items():
        for module in modules:
            if module not in vectors:
                raise DirectionError(f"{path}: draw {draw}: module '{module}' is missing; extract the direction again")
            if len(vectors[module]) != rank:
                found = len(vectors[module])
                raise DirectionError(f"{path}: draw {draw}: module '{module}' has {found} numbers, expected rank {rank}")
        unknown = sorted(set(vectors) - set(modules))
        if unknown:
            raise DirectionError(f"{path}: draw {draw}: module '{unknown[0]}' is not in the model")
    stacked = torch.tensor([[draws[k][module] for module in modules] for k in sorted(draws)])
    norms = stacked.norm(dim=-1)
    if (norms - 1).abs().max() > 1e-4:
        k, m = divmod(int((norms - 1).abs().argmax()), len(modules))
        raise DirectionError(f"{path}: draw {k}: module '{modules[m]}' has norm {norms[k, m]:.4f}, expected 1")
    return stacked


def load_direction(path: Path, draw: int, modules: Sequence[str], rank: int) -> Float[Tensor, "M r"]:
    directions = load_directions(path, modules, rank)
    if draw >= len(directions):
        raise DirectionError(f"{path}: gate.draw is {draw}, but the file holds draws 0 to {len(directions) - 1}")
    return directions[draw]
