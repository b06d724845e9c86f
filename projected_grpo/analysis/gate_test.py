"""The offline gate test at one reading: each direction's metrics, and where they stand among those of the nulls.

With K draws of a null the p-value of a metric is (1 + draws at least as good) / (K + 1), so its floor is 1 / (K + 1).
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from projected_grpo.analysis.nulls import each_module, haar_block, sign_patterns, signed_block, without_each_pair
from projected_grpo.analysis.offline import METRICS, POPULATIONS, Judged, stream
from projected_grpo.settings.arm import Offline

BAND = {"low": 0.025, "median": 0.5, "high": 0.975}  # quantiles of a null
EDGES = np.linspace(0, 1, 101)  # of the histograms of AUROC
AUROC = list(METRICS).index("auroc")
Measured = Float[np.ndarray, "2 metrics K"]


def gate_test(
    judged: Judged,
    directions: Mapping[str, Float[np.ndarray, " D"]],
    differences: Mapping[str, Float[np.ndarray, " D"]],
    widths: Mapping[str, int],
    extraction: str,
    settings: Offline,
    seed: int,
) -> tuple[list[dict], list[dict]]:
    """Rows of offline_gate and of null_histograms, without their reading.

    directions: by name, v_act among them. differences: of v_act's pairs, by pair. widths: of the modules, in order.
    """
    width, paired = list(widths.values()), np.stack(list(differences.values()))
    signs = sign_patterns(len(paired), settings.draws, seed)
    blocks = {
        "haar": (settings.draws, lambda first, count: haar_block(width, seed, first, count)),
        "sign": (len(signs), lambda first, count: signed_block(paired, signs[first : first + count], width, extraction)),
    }
    nulls = {null: stream(judged, *drawn, settings.memory_mb) for null, drawn in blocks.items()}
    scored = {(name, "whole", ""): direction for name, direction in directions.items()}
    if len(paired) > (2 if extraction == "t_statistic" else 1):  # the other pairs make a direction
        left_out = without_each_pair(torch.from_numpy(paired), width, extraction)
        scored |= {("v_act", "without_pair", pair): direction for pair, direction in zip(differences, left_out, strict=True)}
    alone = each_module(directions["v_act"], width)
    scored |= {("v_act", "module", module): direction for module, direction in zip(widths, alone, strict=True)}
    vectors = np.stack(list(scored.values()))
    values = stream(judged, len(vectors), lambda first, count: vectors[first : first + count], settings.memory_mb)
    rows = [row for index, key in enumerate(scored) for row in _rows(judged, *key, values[:, :, index], nulls)]
    return rows, [row for null, measured in nulls.items() for row in _histograms(null, measured)]


def rank_p(null: Float[np.ndarray, " K"], value: float, more_is_better: bool) -> float:
    """(1 + draws of the null that are at least as good) / (K + 1)."""
    as_good = null >= value if more_is_better else null <= value
    return float((1 + as_good.sum()) / (len(null) + 1))


def _rows(judged: Judged, direction: str, part: str, member: str, values: np.ndarray, nulls: Mapping[str, Measured]) -> list[dict]:
    key, rows = {"direction": direction, "part": part, "member": member}, []
    for p, population in enumerate(POPULATIONS):
        n, positives = judged.counts(population)
        for m, (metric, more_is_better) in enumerate(METRICS.items()):
            if metric == "oracle_cosine" and (population != "all" or direction == "oracle"):
                continue
            value = None if np.isnan(values[p, m]) else float(values[p, m])
            row = key | {"rollouts": population, "metric": metric, "n": n, "positives": positives, "value": value}
            ranked = part == "whole" and value is not None
            for null, measured in nulls.items():
                row |= _standing(null, measured[p, m], value, more_is_better) if ranked else _standing(null, None, None, True)
            rows.append(row | {"remark": _remark(row) if ranked and (direction, metric) == ("oracle", "auroc") else None})
    return rows


def _standing(null: str, draws: np.ndarray | None, value: float | None, more_is_better: bool) -> dict[str, float | None]:
    found = dict.fromkeys(["p", "floor", *BAND])
    if draws is not None:
        found |= {"p": rank_p(draws, value, more_is_better), "floor": 1 / (len(draws) + 1)}
        found |= {name: float(np.quantile(draws, q)) for name, q in BAND.items() if len(draws)}
    return {f"{null}_{name}": number for name, number in found.items()}


def _remark(row: dict) -> str:
    if row["value"] < row["haar_low"]:
        return "the oracle lies below the Haar band: at this reading labels separate worse than random directions"
    if row["value"] <= row["haar_high"]:
        return "the oracle lies inside the Haar band: at this reading labels separate no better than random directions"
    return "the oracle lies above the Haar band"


def _histograms(null: str, measured: Measured) -> list[dict]:
    rows = []
    for population, aurocs in zip(POPULATIONS, measured[:, AUROC], strict=True):
        counts, _ = np.histogram(aurocs[~np.isnan(aurocs)], EDGES)
        for number, draws in enumerate(counts.tolist()):
            edges = {"low": float(EDGES[number]), "high": float(EDGES[number + 1])}
            rows.append({"rollouts": population, "null": null, "bin": number, **edges, "draws": draws})
    return rows
