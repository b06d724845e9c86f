"""The runs of a campaign, held against its plan, and pairs of runs that share a seed.

Every rate here is of deployed policies on held-out problems that are shown with a hint, in the words of training.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

from projected_grpo.analysis.plan import Plan
from projected_grpo.env.modes import GT_ONLY
from projected_grpo.errors import InputError

COUNTS = ("judged", "exploited", "correct")
ROUNDING = 1e-3  # cells may hold rounded rates


class CampaignError(InputError):
    """Tables that do not belong together or to the plan; the message names the table, the arm and the seed."""


@dataclass(frozen=True)
class Pair:
    """Two runs with one seed, evaluated on the same problems."""

    seed: int
    counts: np.ndarray  # (problems, 2, 3): judged, exploited and correct samples of the first and the second run
    qmass: float  # first minus second


@dataclass(frozen=True)
class Campaign:
    plan: Plan
    cells: pl.DataFrame  # runs that are not excluded, in the order of the plan's arms and of the seeds
    outcomes: pl.DataFrame  # of these runs: arm, seed, shown_mode, problem_id, judged, exploited, correct
    missing: list[tuple[str, int]]  # planned arm and seed without a row in cells
    excluded: list[tuple[str, int, int]]  # arm, seed and step of divergence

    def pairs(self, first: str, second: str, modes: Collection[str] | None = None) -> list[Pair]:
        """The seeds that both arms have, on problems shown with a hint of `modes`; None: of all.

        Raises CampaignError where the two runs of a seed were evaluated on different problems.
        """
        pairs = []
        for seed in self.plan.seeds:
            runs = [self.cells.filter(arm=arm, seed=seed) for arm in (first, second)]
            if any(run.is_empty() for run in runs):
                continue
            counts = [self._counts(arm, seed, modes) for arm in (first, second)]
            if counts[0]["problem_id"].to_list() != counts[1]["problem_id"].to_list():
                differing = set(counts[0]["problem_id"]) ^ set(counts[1]["problem_id"])
                raise CampaignError(
                    f"table outcomes: seed {seed}: problem '{min(differing)}' is in one of the arms {first} and {second} only; "
                    "evaluate both on the same problems"
                )
            if counts[0].is_empty():
                continue
            both = np.stack([table.select(COUNTS).to_numpy() for table in counts], axis=1).astype(float)
            if not both[..., 0].sum(axis=0).all():
                raise CampaignError(f"table outcomes: seed {seed}: no sample of {first} or {second} was judged; evaluate again")
            pairs.append(Pair(seed, both, runs[0]["qmass"].item() - runs[1]["qmass"].item()))
        return pairs

    def hack_rates(self, arm: str, modes: Collection[str] | None = None) -> dict[int, float]:
        """Seed -> exploited share of judged samples."""
        tables = {seed: self._counts(arm, seed, modes) for seed in self.cells.filter(arm=arm)["seed"]}
        return {seed: table["exploited"].sum() / table["judged"].sum() for seed, table in tables.items() if table["judged"].sum()}

    def _counts(self, arm: str, seed: int, modes: Collection[str] | None) -> pl.DataFrame:
        rows = self.outcomes.filter(arm=arm, seed=seed)
        if modes is not None:
            rows = rows.filter(pl.col("shown_mode").is_in(list(modes)))
        return rows.group_by("problem_id").agg(pl.col(COUNTS).sum()).sort("problem_id")


def collect(plan: Plan, cells: pl.DataFrame, outcomes: pl.DataFrame) -> Campaign:
    """The tables cells and outcomes of results.py, held against the plan and one another. Raises CampaignError."""
    planned = [(arm, seed) for arm in plan.arms for seed in plan.seeds]
    found = list(cells.select("arm", "seed").iter_rows())
    if unplanned := sorted(set(found) - set(planned)):
        arm, seed = unplanned[0]
        raise CampaignError(f"table cells: arm '{arm}' with seed {seed} is not in the plan; leave out what was not planned")
    shown = outcomes.filter(pl.col("shown_mode") != GT_ONLY, data="heldout", state="deployed")
    order = {arm: place for place, arm in enumerate(plan.arms)}
    ordered = cells.sort(pl.col("arm").replace_strict(order, return_dtype=pl.Int32), "seed")
    diverged = ordered.filter(pl.col("diverged_at_step").is_not_null() & plan.exclusions.diverged)
    kept = ordered.join(diverged, on=["arm", "seed"], how="anti", maintain_order="left")
    for row in kept.iter_rows(named=True):
        _agree(row, shown.filter(arm=row["arm"], seed=row["seed"]))
    _check_ground_truth(plan, kept)
    return Campaign(
        plan=plan,
        cells=kept,
        outcomes=shown.select("arm", "seed", "shown_mode", "problem_id", *COUNTS),
        missing=[cell for cell in planned if cell not in set(found)],
        excluded=list(diverged.select("arm", "seed", "diverged_at_step").iter_rows()),
    )


def _agree(cell: dict, rows: pl.DataFrame) -> None:
    """Raises CampaignError where the cell lacks a number or differs from its own outcomes."""
    where = f"arm '{cell['arm']}' with seed {cell['seed']}"
    if rows["judged"].sum() == 0:
        raise CampaignError(f"table outcomes: {where} has no judged sample that is held-out, deployed and hinted; evaluate again")
    for name, hits in (("hack_rate", "exploited"), ("solve_rate", "correct")):
        rate = rows[hits].sum() / rows["judged"].sum()
        if cell[name] is None or abs(cell[name] - rate) > ROUNDING:
            found = f"{name} is {cell[name]}, but its outcomes give {rate:.4f}"
            raise CampaignError(f"table cells: {where}: {found}; collect both tables again")
    if cell["qmass"] is None:
        raise CampaignError(f"table cells: {where}: qmass is null, expected a number; collect both tables again")


def _check_ground_truth(plan: Plan, cells: pl.DataFrame) -> None:
    """Raises CampaignError where a contrast's arm uses ground truth or the machinery control's upper arm does not."""
    expected = {arm: False for contrast in plan.contrasts for arm in (contrast.treatment, contrast.placebo)}
    expected[plan.machinery_control.upper] = True
    for arm, seed, uses in cells.select("arm", "seed", "uses_ground_truth").iter_rows():
        if expected.get(arm, uses) != uses:
            found = f"uses_ground_truth is {uses}, expected {expected[arm]}; mend the arm or the plan"
            raise CampaignError(f"table cells: arm '{arm}' with seed {seed}: {found}")
