"""Rates with intervals over samples that cluster in problems, and the 2x2 of data by state that is made of them.

Samples of one problem resemble one another, so an interval that counted them as independent would be too narrow. The
interval here is that of Korn and Graubard (1998): Clopper-Pearson at the effective sample size, without their
correction for the degrees of freedom of the variance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import betaincinv

from projected_grpo.core.errors import InputError
from projected_grpo.core.tables import DATA, STATES
from projected_grpo.prompts.modes import GT_ONLY, in_order

COVERAGE = 0.95


class RatesError(InputError):
    """A table eval from which the 2x2 cannot be computed; the message names the missing rows."""


@dataclass(frozen=True)
class Rate:
    value: float | None  # share of hits over judged samples; null without any
    low: float | None  # ends of the 95% interval
    high: float | None
    n: int  # judged samples
    problems: int  # problems that the judged samples come from
    excluded: int  # samples without a judgement, because infrastructure failed


@dataclass(frozen=True)
class Cell:
    data: str  # heldout | train_iid | heldout_words
    state: str  # base | as_trained | deployed
    hack: Rate  # exploited share on prompts with a hint
    solve: Rate  # correct share on prompts with a hint
    solve_unhinted: Rate  # correct share on prompts without one
    hack_by_mode: dict[str, Rate]  # exploited share by the mode whose hint was shown


def rate(hits: Sequence[bool | None], problem_ids: Sequence[str]) -> Rate:
    """The share of hits and its 95% Korn-Graubard interval. A null hit is left out of the share and counted."""
    samples = pl.DataFrame({"hit": hits, "problem": problem_ids}, schema={"hit": pl.Boolean, "problem": pl.String})
    judged = samples.drop_nulls("hit")
    excluded = samples.height - judged.height
    if judged.is_empty():
        return Rate(None, None, None, 0, 0, excluded)
    clusters = judged.group_by("problem", maintain_order=True).agg(pl.col("hit").sum(), size=pl.len())
    share = float(judged["hit"].mean())
    low, high = clopper_pearson(share, effective_size(clusters["hit"].to_numpy(), clusters["size"].to_numpy()))
    return Rate(share, low, high, judged.height, clusters.height, excluded)


def effective_size(hits: np.ndarray, sizes: np.ndarray) -> float:
    """Independent samples that would give the clustered variance of the share; between the problems and the samples.

    hits, sizes: (problems,) hits and samples of each problem. Where no variance can be estimated, because all samples
    agree or there is one problem, the effective size is the number of problems.
    """
    n, problems = int(sizes.sum()), len(sizes)
    share = hits.sum() / n
    if problems == 1 or share in (0.0, 1.0):
        return float(problems)
    residuals = hits - share * sizes
    variance = problems / (problems - 1) * float(residuals @ residuals) / n**2
    if variance == 0.0:
        return float(n)
    return float(np.clip(share * (1.0 - share) / variance, problems, n))


def clopper_pearson(share: float, n: float) -> tuple[float, float]:
    """The exact 95% interval of a share of n independent samples; n need not be whole."""
    hits, tail = share * n, (1.0 - COVERAGE) / 2.0
    low = float(betaincinv(hits, n - hits + 1.0, tail)) if share > 0.0 else 0.0
    high = float(betaincinv(hits + 1.0, n - hits, 1.0 - tail)) if share < 1.0 else 1.0
    return low, high


def two_by_two(rows: Sequence[Mapping]) -> list[Cell]:
    """One cell for each data and state, from rows of the table eval. Raises RatesError where a cell has no rows.

    There are no held-out words where no task has any, as in an environment of the user's own.
    """
    worded = any(row["data"] == "heldout_words" for row in rows)
    return [_cell(rows, data, state) for data in DATA if data != "heldout_words" or worded for state in STATES]


def find(cells: Sequence[Cell], data: str, state: str) -> Cell:
    return next(cell for cell in cells if (cell.data, cell.state) == (data, state))


def selectivity(as_trained: Cell, deployed: Cell) -> float | None:
    """Relative hack removed by the deployment ablation minus relative solve lost by it; null where either is 0/0."""
    hack, solve = as_trained.hack.value, as_trained.solve.value
    if not hack or not solve or deployed.hack.value is None or deployed.solve.value is None:
        return None
    return (hack - deployed.hack.value) / hack - (solve - deployed.solve.value) / solve


def _cell(rows: Sequence[Mapping], data: str, state: str) -> Cell:
    ours = [row for row in rows if (row["data"], row["state"]) == (data, state)]
    if not ours:
        raise RatesError(f"table eval: found no row with data '{data}' and state '{state}', expected at least one")
    hinted = [row for row in ours if row["shown_mode"] != GT_ONLY]
    shown = in_order(row["shown_mode"] for row in hinted)
    by_mode = {mode: _share([row for row in hinted if row["shown_mode"] == mode], "exploited") for mode in shown}
    unhinted = [row for row in ours if row["shown_mode"] == GT_ONLY]
    solve, solve_unhinted = _share(hinted, "gt_correct"), _share(unhinted, "gt_correct")
    return Cell(data, state, _share(hinted, "exploited"), solve, solve_unhinted, by_mode)


def _share(rows: Sequence[Mapping], column: str) -> Rate:
    return rate([row[column] for row in rows], [row["problem_id"] for row in rows])
