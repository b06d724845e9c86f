"""Judge a finished campaign by its plan: the verdict as JSON and as Markdown tables."""

import json
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as TerminalTable

from projected_grpo.analysis.campaign import collect
from projected_grpo.analysis.plan import load_plan
from projected_grpo.analysis.results import CELLS, OUTCOMES
from projected_grpo.analysis.verdict import verdict
from projected_grpo.core.parquet import Table, read_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import PAIRS
from projected_grpo.reporting.summary import covered_modes
from projected_grpo.reporting.verdict import arm_table, claim_table, markdown

EXAMPLE = "dvc repro campaigns/toy2/dvc.yaml:report"


def main(
    cells: Annotated[Path, typer.Option(help="Table cells.")],
    outcomes: Annotated[Path, typer.Option(help="Table outcomes.")],
    plan: Annotated[Path, typer.Option(help="Plan of the campaign: Markdown with YAML front matter.")],
    pairs: Annotated[Path, typer.Option(help="Table pairs, whose modes count as covered.")],
    out: Annotated[Path, typer.Option(help="The verdict and its numbers, written as JSON.")],
    table: Annotated[Path, typer.Option(help="The same as Markdown tables, written.")],
) -> None:
    planned, digest = load_plan(plan)
    campaign = collect(planned, _frame(cells, CELLS), _frame(outcomes, OUTCOMES))
    found = verdict(campaign, digest, covered_modes(_frame(pairs, PAIRS)))
    text = markdown(found, planned)
    for path in (out, table):
        path.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    table.write_text(text)
    show("Claims", claim_table(found, planned))
    show("Arms", arm_table(found))
    print(f"verdict -> {out}\ntables -> {table}")


def _frame(path: Path, table: Table) -> pl.DataFrame:
    return pl.from_arrow(read_table(path, table))


def show(title: str, rows: list[list[str]]) -> None:
    """Print a table whose first row is its head."""
    head, *body = rows
    shown = TerminalTable(*head, title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    for row in body:
        shown.add_row(*row)
    Console().print(shown)


if __name__ == "__main__":
    run_stage(main)
