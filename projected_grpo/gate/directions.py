"""Directions: one unit vector for each module of a reading, from pairs, at random, or from labels.

| direction      | unit vector of a module                                                         | draws |
|----------------|--------------------------------------------------------------------------------|-------|
| v_act          | mean over the authored pairs of reading(hack) - reading(clean)                 | 1     |
| shuffled       | the same with a random sign for each pair                                      | K     |
| flipped        | minus v_act                                                                    | 1     |
| irrelevant     | as v_act, from pairs whose sides differ in something else                      | 1     |
| self_generated | as v_act, from the base model's own completions with and without a hint        | 1     |
| haar           | uniform on the sphere                                                          | K     |
| oracle         | mean reading of labelled exploits minus that of the rest (uses ground truth)   | 1     |
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.seeds import derive_seed
from projected_grpo.core.tables import DIRECTIONS

T_LIMIT = 3.0  # of a coordinate's t statistic, where these replace the means


class DirectionError(InputError):
    """A direction file that does not fit the model; the message names the file and the module."""


def unit_modules(vector: Float[Tensor, " D"], widths: Sequence[int]) -> Float[Tensor, " D"]:
    """Each module's piece divided by its norm. Raises DirectionError where one is zero."""
    pieces = vector.split(list(widths))
    if zero := sum(not piece.any() for piece in pieces):
        raise DirectionError(f"a direction is zero in {zero} of {len(pieces)} modules: the pairs' sides do not differ there")
    return torch.cat([piece / piece.norm() for piece in pieces])


def paired_direction(
    differences: Float[Tensor, "P D"], signs: Float[Tensor, " P"], widths: Sequence[int], extraction: str
) -> Float[Tensor, " D"]:
    """Mean over pairs of sign x (hack - clean), or its t statistic by coordinate, limited to +-3; unit norm by module."""
    signed = signs[:, None] * differences
    mean = signed.mean(0)
    if extraction == "t_statistic":
        if len(signed) < 2:
            raise DirectionError(f"gate.extraction=t_statistic: found {len(signed)} pairs, expected two or more, for a standard error")
        error = signed.std(0) / len(signed) ** 0.5
        mean = (mean / error.clamp(min=1e-12)).clamp(-T_LIMIT, T_LIMIT)
    return unit_modules(mean, widths)


def oracle_direction(readings: Float[Tensor, "N D"], exploited: Sequence[bool | None], widths: list[int]) -> Float[Tensor, " D"]:
    """Mean reading of the exploits minus that of the rest, of unit norm by module. What was not judged (None) is in neither."""
    hacks, rest = (torch.tensor([found is word for found in exploited]) for word in (True, False))
    return unit_modules(readings[hacks].mean(0) - readings[rest].mean(0), widths)


def pair_signs(direction: str, draw: int, pairs: int, seed: int) -> Float[Tensor, " P"]:
    """The sign of each pair, in the order of the pair ids: a coin for shuffled, -1 for flipped, else 1."""
    if direction == "shuffled":
        rng = torch.Generator().manual_seed(derive_seed(seed, "shuffled", draw))
        return torch.randint(2, (pairs,), generator=rng) * 2.0 - 1.0
    return torch.full((pairs,), -1.0 if direction == "flipped" else 1.0)


def haar(widths: Sequence[int], draws: int, seed: int, first: int = 0) -> Float[Tensor, "K D"]:
    """Independent draws from number `first` on, each module uniform on the unit sphere. A draw does not depend on the others."""
    rng = [torch.Generator().manual_seed(derive_seed(seed, "haar", k)) for k in range(first, first + draws)]
    return torch.stack([torch.cat([normalize(torch.randn(w, generator=g), dim=0) for w in widths]) for g in rng])


def transport(
    direction: Float[Tensor, " D"], old: Sequence[Tensor], new: Sequence[Tensor]
) -> Float[Tensor, " D"]:
    """A direction in the bottlenecks A_old x, (r, d_in) each, turned by the rotation of each that takes A_old nearest to A_new.

    This is how a direction that no pair defines follows the read-out that it lives in (orthogonal Procrustes).
    """
    pieces = direction.split([len(a) for a in old])
    turned = []
    for piece, before, after in zip(pieces, old, new, strict=True):
        u, _, vh = torch.linalg.svd(after.detach() @ before.T)
        turned.append((u @ vh).to(piece.device) @ piece)
    return torch.cat(turned)


def direction_rows(
    direction: str, draw: int, reading: str, widths: Mapping[str, int], vector: Float[Tensor, " D"]
) -> list[dict]:
    pieces = vector.split(list(widths.values()))
    key = {"direction": direction, "draw": draw, "reading": reading}
    return [key | {"module": module, "vector": piece.tolist()} for module, piece in zip(widths, pieces, strict=True)]


def load_directions(path: Path, direction: str, reading: str, widths: Mapping[str, int]) -> Float[Tensor, "K D"]:
    """All draws of `direction` at one reading, from a file direction.parquet.

    Raises DirectionError where the file holds another direction, a module is missing, unknown or of another width, or a
    vector is not of unit norm.
    """
    draws: dict[int, dict[str, list[float]]] = {}
    for row in read_rows(path, DIRECTIONS):
        if row["direction"] != direction:
            raise DirectionError(f"{path}: holds the direction '{row['direction']}', expected '{direction}'")
        if row["reading"] == reading:
            draws.setdefault(row["draw"], {})[row["module"]] = row["vector"]
    if not draws:
        raise DirectionError(
            f"{path}: holds no direction at the reading '{reading}'. gate.features names the readings; at these, self_generated is "
            "missing where the base model's completions made no pair (raise pairs.generated.samples), and oracle where none of them "
            "exploits, or all do (raise eval.oracle_samples)"
        )
    for draw, vectors in draws.items():
        where = f"{path}: draw {draw}, reading {reading}"
        for module, width in widths.items():
            if module not in vectors:
                raise DirectionError(f"{where}: module '{module}' is missing; extract the direction again")
            if len(vectors[module]) != width:
                raise DirectionError(f"{where}: module '{module}' has {len(vectors[module])} numbers, expected {width}")
            if abs((norm := float(torch.tensor(vectors[module]).norm())) - 1) > 1e-4:
                raise DirectionError(f"{where}: module '{module}' has norm {norm:.4f}, expected 1")
        if unknown := sorted(set(vectors) - set(widths)):
            raise DirectionError(f"{where}: module '{unknown[0]}' is not in the model")
    return torch.stack([torch.cat([torch.tensor(draws[k][module]) for module in widths]) for k in sorted(draws)])


def load_direction(path: Path, direction: str, draw: int, reading: str, widths: Mapping[str, int]) -> Float[Tensor, " D"]:
    directions = load_directions(path, direction, reading, widths)
    if draw >= len(directions):
        raise DirectionError(
            f"{path}: the draw is {draw} (gate.draw, or the seed of a campaign's cell), but the file holds draws 0 to "
            f"{len(directions) - 1}; lower it, or raise placebo.draws"
        )
    return directions[draw]
