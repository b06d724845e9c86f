"""Print how far campaigns are, and their finished runs by arm and seed."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from projected_grpo.analysis.results import CELLS
from projected_grpo.core.parquet import read_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.reporting.statements import words
from projected_grpo.reporting.verdict import arm_name
from projected_grpo.settings.campaign import load_campaign

SHOWN = ("hack_rate", "qmass", "solve_rate", "selectivity", "hack_rate_as_trained", "auroc_live")
LAST = "zones.parquet"  # what the last stage of a cell writes
RECENT = 8  # cells whose pace the time left is taken from
EXAMPLE = "python -m stages.show_cells campaigns/toy2"


def main(folders: Annotated[list[Path] | None, typer.Argument(help="Folders of campaigns, such as campaigns/toy2.")] = None) -> None:
    for folder in folders or []:
        print(f"{folder}: {progress(folder)}")
        if (folder / "cells.parquet").exists():
            show(folder / "cells.parquet")


def progress(folder: Path) -> str:
    """Cells that are done, and the time left at the pace of the last ones, by the times of their files."""
    runs = load_campaign(folder / "params.yaml").runs
    files = [folder / "cells" / arm / seed / LAST for arm, seed in runs]
    done = sorted(file.stat().st_mtime for file in files if file.exists())
    said, left = f"{len(done)} of {len(runs)} cells done", len(runs) - len(done)
    recent = done[-RECENT - 1 :]
    if not left or len(recent) < 2:
        return said
    pace = (recent[-1] - recent[0]) / (len(recent) - 1)
    return f"{said}, the last {len(recent) - 1} at {pace:.0f} s each; {pace * left / 3600:.1f} hours left"


def show(path: Path) -> None:
    table = Table("arm", "seed", "draw", *SHOWN, title=str(path.parent), box=SIMPLE, padding=(0, 1, 0, 0))
    rows = pl.from_arrow(read_table(path, CELLS)).sort("arm", "seed").to_dicts()
    for row, following in zip(rows, [*rows[1:], None]):
        name = [arm_name(row["arm"], row["uses_ground_truth"]), str(row["seed"]), "" if row["draw"] is None else str(row["draw"])]
        table.add_row(*name, *(words(row[key]) for key in SHOWN), end_section=following is None or following["arm"] != row["arm"])
    Console().print(table)


if __name__ == "__main__":
    run_stage(main)
