"""The nulls of the offline gate test: Haar draws (gate/directions.py) and v_act with the signs of its pairs changed.

A sign pattern keeps the norms and the covariance of the paired differences, which a Haar draw does not. The first pair
keeps its sign, so a pattern and its negation count once, and v_act's own pattern is left out, so that the ranks of
v_act among all patterns are those of a randomization test.
"""

import random
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from projected_grpo.core.seeds import derive_seed
from projected_grpo.gate.directions import T_LIMIT, DirectionError, haar, paired_direction

TILE = 16  # rows of a matrix product


def product(rows: Float[np.ndarray, "B K"], matrix: Float[np.ndarray, "K N"]) -> Float[np.ndarray, "B N"]:
    """rows @ matrix in products of one shape, so that a result does not depend on how many rows there are.

    Blocks of rows that start at a multiple of TILE give the bytes of the whole product.
    """
    filled = np.zeros((-(-len(rows) // TILE) * TILE, rows.shape[1]), rows.dtype)
    filled[: len(rows)] = rows
    out = np.empty((len(filled), matrix.shape[1]), np.result_type(rows, matrix))
    for start in range(0, len(filled), TILE):
        np.matmul(filled[start : start + TILE], matrix, out=out[start : start + TILE])
    return out[: len(rows)]


def haar_block(widths: Sequence[int], seed: int, first: int, count: int) -> Float[np.ndarray, "B D"]:
    """Draws `first` to `first + count` of the placebo's stream."""
    return haar(widths, count, seed, first).numpy()


def sign_patterns(pairs: int, draws: int, seed: int) -> Float[np.ndarray, "K P"]:
    """Distinct patterns of +-1 up to a global sign, less the one without a minus.

    All 2^(P-1) - 1 of them where these are at most `draws`, and a sample of `draws` otherwise.
    """
    if 2 ** (pairs - 1) - 1 <= draws:
        codes = range(1, 2 ** (pairs - 1))
    else:
        rng, found = random.Random(derive_seed(seed, "sign-patterns")), {0: None}
        while len(found) <= draws:
            found[rng.getrandbits(pairs - 1)] = None
        codes = list(found)[1:]
    minus = np.array([[code >> bit & 1 for bit in range(pairs - 1)] for code in codes], float).reshape(len(codes), pairs - 1)
    return np.concatenate([np.ones((len(codes), 1)), 1 - 2 * minus], axis=1)


def signed_block(
    differences: Float[np.ndarray, "P D"], signs: Float[np.ndarray, "B P"], widths: Sequence[int], extraction: str
) -> Float[np.ndarray, "B D"]:
    """paired_direction of gate/directions.py for many patterns of signs at once."""
    pairs = len(differences)
    mean = product(signs, differences.astype(float)) / pairs
    if extraction == "t_statistic":
        square = (differences.astype(float) ** 2).sum(0)
        error = np.sqrt(np.clip(square - pairs * mean**2, 0, None) / (pairs - 1) / pairs)
        mean = np.clip(mean / np.clip(error, 1e-12, None), -T_LIMIT, T_LIMIT)
    norms = np.sqrt(np.add.reduceat(mean**2, np.cumsum([0, *widths[:-1]]), axis=1))
    if not norms.all():
        raise DirectionError("a sign pattern's direction is zero in a module: the pairs' differences there cancel exactly")
    return (mean / np.repeat(norms, widths, axis=1)).astype(np.float32)


def without_each_pair(differences: Float[Tensor, "P D"], widths: Sequence[int], extraction: str) -> Float[np.ndarray, "P D"]:
    """v_act from all pairs but one, pair by pair."""
    kept = [differences[[q for q in range(len(differences)) if q != p]] for p in range(len(differences))]
    return np.stack([paired_direction(d, d.new_ones(len(d)), widths, extraction).numpy() for d in kept])


def each_module(direction: Float[np.ndarray, " D"], widths: Sequence[int]) -> Float[np.ndarray, "M D"]:
    """The direction in one module and zero in the others, module by module."""
    module = np.repeat(np.arange(len(widths)), widths)
    return np.where(module == np.arange(len(widths))[:, None], direction, 0).astype(np.float32)
