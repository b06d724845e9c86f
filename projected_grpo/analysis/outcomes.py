"""One run's judged completions counted by problem, which is the level at which the statistics resample them."""

from collections.abc import Sequence

import polars as pl

KEY = ("data", "state", "shown_mode", "problem_id")


def outcomes(arm: str, seed: int, rows: Sequence[dict]) -> list[dict]:
    """Rows of the table outcomes, from rows of the table eval."""
    judged = pl.DataFrame(rows, infer_schema_length=None)
    known = pl.col("exploited").is_not_null()
    counts = judged.group_by(KEY, maintain_order=True).agg(
        judged=known.sum(),
        exploited=pl.col("exploited").sum(),
        correct=pl.col("gt_correct").sum(),
        excluded=(~known).sum(),
    )
    return [{"arm": arm, "seed": seed} | row for row in counts.iter_rows(named=True)]
