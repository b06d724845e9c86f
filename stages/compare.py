"""Compare runs by revision or experiment name: a table, a summary of each arm, and the frontier.

`workspace` names the run in the working folder. Runs that differ in more than arm, variant and seed are refused.
"""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from projected_grpo.core.runtime import run_stage
from projected_grpo.reporting import compare
from projected_grpo.reporting.figures import frontier_figure

EXAMPLE = "python -m stages.compare HEAD workspace --out reports/comparison"


def main(
    revs: Annotated[list[str], typer.Argument(help="Git revisions or experiment names.")],
    out: Annotated[Path, typer.Option(help="Folder of comparison.csv, comparison.md and frontier.svg, written.")],
) -> None:
    runs = [compare.load_run(rev) for rev in revs]
    compare.check_comparable(runs)
    table = compare.run_table(runs)
    drawing = frontier_figure(compare.frontier_points(table))
    out.mkdir(parents=True, exist_ok=True)
    table.write_csv(out / "comparison.csv")
    (out / "comparison.md").write_text(compare.markdown(table))
    (out / "frontier.svg").write_text(drawing)
    _print("Runs", table.select("group", "variant", "draw", "seed", "rev", "hack_rate", "qmass", "solve_rate"))
    arms = compare.arm_table(table).drop("min_hack_rate", "max_hack_rate")
    _print(f"Arms (hacked: deployed hack rate over {compare.HACKED})", arms)
    for name in ("comparison.csv", "comparison.md", "frontier.svg"):
        print(out / name)


def _print(title: str, table: pl.DataFrame) -> None:
    if not any(table["variant"]):  # the runs share it
        table = table.drop("variant")
    shown = Table(*table.columns, title=title, box=SIMPLE)
    previous = None
    for row in table.iter_rows():
        if previous not in (None, row[0]):
            shown.add_section()
        previous = row[0]
        shown.add_row(*(compare.words(cell) for cell in row))
    Console().print(shown)


if __name__ == "__main__":
    run_stage(main)
