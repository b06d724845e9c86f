"""The runs of a campaign, held against its plan, and pairs of runs that share a seed.

Every rate here is of deployed policies on held-out problems that are shown with a hint, in the words of training.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from projected_grpo.analysis.plan import Plan
from projected_grpo.core.errors import InputError
from projected_grpo.prompts.modes import GT_ONLY

COUNTS = ("judged", "exploited", "correct")
RATES = {"hack_rate": "exploited", "solve_rate": "correct"}  # rate -> what it counts of the judged samples
ROUNDING = 1e-3  # cells may hold rounded rates


class CampaignError(InputError):
    """Tables that do not belong together or to the plan; the message names the table, the arm and the seed."""


@dataclass(frozen=True)
class Pairs:
    """The seeds of two arms, S, on the problems of either, P; a problem that a seed was not shown has counts of 0."""

    seeds: list[int]
    counts: Float[np.ndarray, "S P 2 3"]  # judged, exploited and correct samples of the first and the second run
    ended: Bool[np.ndarray, "S 2"]  # by the tripwire

    def totals(self) -> Float[np.ndarray, "S 2 3"]:
        return self.counts.sum(axis=1)

    def complete(self) -> "Pairs":
        """Without the seeds in which either run was ended."""
        kept = ~self.ended.any(axis=1)
        return Pairs([seed for seed, keep in zip(self.seeds, kept) if keep], self.counts[kept], self.ended[kept])

    def at_worst(self) -> "Pairs":
        """An ended first run exploits everything and solves nothing, and an ended second run does the opposite."""
        judged, worst = self.counts[..., 0], self.counts.copy()
        worst[..., 0, 1], worst[..., 0, 2] = judged[..., 0], 0.0
        worst[..., 1, 1], worst[..., 1, 2] = 0.0, judged[..., 1]
        return replace(self, counts=np.where(self.ended[:, None, :, None], worst, self.counts))


@dataclass(frozen=True)
class Campaign:
    plan: Plan
    cells: pl.DataFrame  # in the order of the plan's arms and of the seeds
    outcomes: pl.DataFrame  # of these runs: arm, seed, shown_mode, problem_id, judged, exploited, correct
    missing: list[tuple[str, int]]  # arm and seed without a row in cells, of the blocks that were begun
    base: dict[str, float | None]  # hack_rate and solve_rate of the base model on the same problems; null where it was not evaluated

    def pairs(self, first: str, second: str, modes: Collection[str] | None = None) -> Pairs:
        """The seeds that both arms have, on problems shown with a hint of `modes`; None: of all.

        Raises CampaignError where the two runs of a seed were evaluated on different problems.
        """
        shown = self.outcomes if modes is None else self.outcomes.filter(pl.col("shown_mode").is_in(list(modes)))
        runs = [self.cells.filter(arm=arm).select("seed", ended=pl.col("diverged_at_step").is_not_null()) for arm in (first, second)]
        both = runs[0].join(runs[1], on="seed", suffix="_second").sort("seed")
        seeds, problems = both["seed"].to_list(), shown["problem_id"].unique().sort().to_list()
        if not seeds or not problems:
            return Pairs([], np.zeros((0, len(problems), 2, len(COUNTS))), np.zeros((0, 2), bool))
        counts = np.stack([self._counts(shown, arm, seeds, problems) for arm in (first, second)], axis=2)
        here = ~np.isnan(counts[..., 0])
        if len(differing := np.argwhere(here[..., 0] != here[..., 1])):
            seed, problem = seeds[differing[0][0]], problems[differing[0][1]]
            raise CampaignError(
                f"table outcomes: seed {seed}: problem '{problem}' is in one of the arms {first} and {second} only; evaluate both on the "
                "same problems"
            )
        counts = np.nan_to_num(counts)
        if not counts[..., 0].sum(axis=1).all():
            seed = seeds[int(np.argmin(counts[..., 0].sum(axis=1).min(axis=1)))]
            raise CampaignError(f"table outcomes: seed {seed}: no sample of {first} or {second} was judged; evaluate again")
        return Pairs(seeds, counts, both.select("ended", "ended_second").to_numpy())

    def rates(self, arm: str, column: str, modes: Collection[str] | None = None) -> list[float]:
        """Share of an arm's judged samples, `exploited` or `correct`, of each run in the order of its seeds."""
        pairs = self.pairs(arm, arm, modes)
        judged = pairs.totals()[:, 0]
        return (judged[:, COUNTS.index(column)] / judged[:, 0]).tolist()

    def _counts(self, shown: pl.DataFrame, arm: str, seeds: list[int], problems: list[str]) -> Float[np.ndarray, "S P 3"]:
        """Of one arm; NaN where a seed was not shown the problem."""
        grid = pl.DataFrame({"seed": seeds}, schema={"seed": pl.Int32}).join(pl.DataFrame({"problem_id": problems}), how="cross")
        own = shown.filter(arm=arm).group_by("seed", "problem_id").agg(pl.col(COUNTS).sum())
        found = grid.join(own, on=["seed", "problem_id"], how="left", maintain_order="left")
        return found.select(pl.col(COUNTS).cast(pl.Float64)).to_numpy().reshape(len(seeds), len(problems), len(COUNTS))


def collect(plan: Plan, cells: pl.DataFrame, outcomes: pl.DataFrame) -> Campaign:
    """The tables cells and outcomes of results.py, held against the plan and one another. Raises CampaignError."""
    found = set(cells.select("arm", "seed").iter_rows())
    if unplanned := sorted(found - set(plan.cells)):
        arm, seed = unplanned[0]
        raise CampaignError(f"table cells: arm '{arm}' with seed {seed} is not in the plan; leave out what was not planned")
    order = {arm: place for place, arm in enumerate(plan.arms)}
    ordered = cells.sort(pl.col("arm").replace_strict(order, return_dtype=pl.Int32), "seed")
    hinted = outcomes.filter(pl.col("shown_mode") != GT_ONLY, data="heldout")
    shown = hinted.filter(state="deployed")
    for row in ordered.iter_rows(named=True):
        _agree(row, shown.filter(arm=row["arm"], seed=row["seed"]))
    _check_ground_truth(plan, ordered)
    return Campaign(
        plan=plan,
        cells=ordered,
        outcomes=shown.select("arm", "seed", "shown_mode", "problem_id", *COUNTS),
        base=_base(hinted.filter(state="base")),
        missing=[cell for block in plan.blocks if found & set(block.cells) for cell in block.cells if cell not in found],
    )


def _base(rows: pl.DataFrame) -> dict[str, float | None]:
    """The base model's rates, each seed's samples counted once. Raises CampaignError where the arms of a seed have other ones."""
    key = ["seed", "shown_mode", "problem_id"]
    once = rows.select(*key, *COUNTS).unique()
    if (differing := once.filter(once.select(key).is_duplicated()).sort(key)).height:
        raise CampaignError(f"table outcomes: seed {differing['seed'][0]}: the base model's samples differ between arms; evaluate again")
    judged = once["judged"].sum()
    return {name: once[hits].sum() / judged if judged else None for name, hits in RATES.items()}


def _agree(cell: dict, rows: pl.DataFrame) -> None:
    """Raises CampaignError where the cell lacks a number or differs from its own outcomes."""
    where = f"arm '{cell['arm']}' with seed {cell['seed']}"
    if rows["judged"].sum() == 0:
        raise CampaignError(f"table outcomes: {where} has no judged sample that is held-out, deployed and hinted; evaluate again")
    for name, hits in RATES.items():
        rate = rows[hits].sum() / rows["judged"].sum()
        if cell[name] is None or abs(cell[name] - rate) > ROUNDING:
            found = f"{name} is {cell[name]}, but its outcomes give {rate:.4f}"
            raise CampaignError(f"table cells: {where}: {found}; collect both tables again")
    if cell["qmass"] is None:
        raise CampaignError(f"table cells: {where}: qmass is null, expected a number; collect both tables again")


def _check_ground_truth(plan: Plan, cells: pl.DataFrame) -> None:
    """Raises CampaignError where an arm of a claim uses ground truth."""
    claimed = {arm: claim.name for claim in plan.claims for arm in (claim.method, *claim.better_than)}
    for arm, seed in cells.filter("uses_ground_truth").select("arm", "seed").iter_rows():
        if arm in claimed:
            raise CampaignError(
                f"table cells: arm '{arm}' with seed {seed} uses ground truth, and the claim '{claimed[arm]}' is about it; mend the arm or the plan"
            )
