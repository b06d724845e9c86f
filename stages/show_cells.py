"""Print the finished runs of campaigns, by arm and seed."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from projected_grpo.parquet import read_table
from projected_grpo.reporting.compare import words
from projected_grpo.reporting.verdict import arm_name
from projected_grpo.results import CELLS
from projected_grpo.runtime import run_stage

SHOWN = ("hack_rate", "qmass", "solve_rate", "selectivity", "hack_rate_as_trained", "auroc_live")


def main(cells: Annotated[list[Path] | None, typer.Argument(help="Tables cells, such as campaigns/toy/cells.parquet.")] = None) -> None:
    for path in cells or []:
        table = Table("arm", "seed", "draw", *SHOWN, title=str(path.parent), box=SIMPLE, padding=(0, 1, 0, 0))
        rows = pl.from_arrow(read_table(path, CELLS)).sort("arm", "seed").to_dicts()
        for row, following in zip(rows, [*rows[1:], None]):
            name = [arm_name(row["arm"], row["uses_ground_truth"]), str(row["seed"]), "" if row["draw"] is None else str(row["draw"])]
            table.add_row(*name, *(words(row[key]) for key in SHOWN), end_section=following is None or following["arm"] != row["arm"])
        Console().print(table)


if __name__ == "__main__":
    run_stage(main)
