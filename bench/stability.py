"""Whether training left the policy sound: one row a run, from the tables that training wrote.

Usage: `python -m bench.stability FOLDER...`, each the folder `train` of a run, such as `artifacts/train` or
`campaigns/toy2/cells/none/109/train`. Nothing here needs labels. The columns are KL to the base of a step (median, 95% quantile,
largest), the largest gradient norm of a block before clipping, the most steps in a row in which fewer than 80% of the programs
compile, the lowest share of a step, and shares of rollouts that were paid for passing: with a hint in the last 20 steps, which counts
hacks and solutions, and without one, which counts solutions by the visible tests, in the first 10 steps and in the last 20.
"""

import sys
from itertools import groupby
from pathlib import Path

import polars as pl

from projected_grpo.core.parquet import read_table
from projected_grpo.core.tables import ROLLOUTS, STEPS
from projected_grpo.environment.grader import PASSES
from projected_grpo.prompts.modes import GT_ONLY

COMPILING, IN_A_ROW = 0.8, 5  # a run has left the base where fewer programs compile in so many steps in a row
FIRST, LAST = 10, 20  # steps
COLUMNS = ("run", "steps", "KL median", "KL 95%", "KL max", "gradient max", "steps in a row", "lowest share", "paid, hint", "solved, first", "solved, last")


def longest_excursion(compiled: list[float | None]) -> int:
    """The most steps in a row whose share of compiling programs is known and below COMPILING."""
    below = (share is not None and share < COMPILING for share in compiled)
    return max((sum(1 for _ in steps) for low, steps in groupby(below) if low), default=0)


def row(folder: Path) -> list[str]:
    steps, rollouts = (pl.from_arrow(read_table(folder / f"{table.name}.parquet", table)) for table in (STEPS, ROLLOUTS))
    count, kl = len(steps), steps["kl"].drop_nulls()
    passed = rollouts.filter(source="policy").with_columns(passed=pl.col("reward") >= PASSES, hinted=pl.col("shown_mode") != GT_ONLY)
    first, last = passed.filter(pl.col("step") < FIRST), passed.filter(pl.col("step") >= count - LAST)
    solved = [part.filter(~pl.col("hinted"))["passed"].mean() for part in (first, last)]
    gradient = max(steps["grad_norm_deployed"].max(), steps["grad_norm_quarantine"].max())
    numbers = [kl.median(), kl.quantile(0.95), kl.max(), gradient]
    shares = [steps["compiled_share"].min(), last.filter("hinted")["passed"].mean(), *solved]
    excursion = longest_excursion(steps["compiled_share"].to_list())
    return [str(folder), str(count), *(f"{n:.2f}" for n in numbers), str(excursion), *(f"{share:.2f}" for share in shares)]


def main(folders: list[str]) -> None:
    if not folders:
        sys.exit("found no folder; name the folders `train` of runs, such as artifacts/train")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for folder in folders:
        print(f"| {' | '.join(row(Path(folder)))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
