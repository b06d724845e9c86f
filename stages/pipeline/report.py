"""Report one run: headline metrics, its point on the frontier, the curves of training, and a page to read."""

import json
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as TerminalTable

from projected_grpo.analysis.rates import Cell, Rate, two_by_two
from projected_grpo.core.parquet import Table, read_rows, read_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import DIAGNOSTICS, EVAL, GATE, LABELS, PAIRS, PROBLEMS, ROLLOUTS, STEPS
from projected_grpo.reporting import summary
from projected_grpo.reporting.html import Contents, render
from projected_grpo.reporting.manifest import describe, parse_manifest
from projected_grpo.reporting.statements import DATA_NAMES, STATE_NAMES
from projected_grpo.settings.arm import load_settings


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    pairs: Annotated[Path, typer.Option(help="Table pairs.")],
    eval: Annotated[Path, typer.Option(help="Table eval.")],
    diagnostics: Annotated[Path, typer.Option(help="Table diagnostics.")],
    steps: Annotated[Path, typer.Option(help="Table steps.")],
    rollouts: Annotated[Path, typer.Option(help="Table rollouts.")],
    gate: Annotated[Path, typer.Option(help="Table gate.")],
    labels: Annotated[Path, typer.Option(help="Table labels.")],
    run: Annotated[Path, typer.Option(help="Facts of the training run, JSON.")],
    manifest: Annotated[Path, typer.Option(help="The arm, its settings and the facts of its run, written as JSON.")],
    metrics: Annotated[Path, typer.Option(help="Headline metrics, written as JSON.")],
    frontier: Annotated[Path, typer.Option(help="The run's point of qmass and hack rate, written as JSON.")],
    plots: Annotated[Path, typer.Option(help="Folder of CSV files to plot, written.")],
    html: Annotated[Path, typer.Option(help="The report, written as one page.")],
) -> None:
    inputs = {
        "problems": problems,
        "pairs": pairs,
        "eval": eval,
        "diagnostics": diagnostics,
        "steps": steps,
        "rollouts": rollouts,
        "gate": gate,
        "labels": labels,
        "run": run,
    }
    outputs = {"manifest": manifest, "metrics": metrics, "frontier": frontier, "training curve": plots / "training.csv", "report": html}
    described = describe(load_settings(), {"problems": problems, "pairs": pairs}, run)
    record = parse_manifest(json.dumps(described), str(run))
    cells = two_by_two(read_rows(eval, EVAL))
    step_table, diagnostic_table = _frame(steps, STEPS), _frame(diagnostics, DIAGNOSTICS)
    labelled = summary.labelled(_frame(rollouts, ROLLOUTS), _frame(labels, LABELS))
    curve = summary.training_curve(step_table, labelled)
    numbers = summary.headline(cells, step_table, diagnostic_table)
    page = render(
        Contents(
            manifest=record,
            metrics=numbers,
            cells=cells,
            curve=curve,
            labelled=labelled,
            diagnostics=diagnostic_table,
            covered=summary.covered_modes(_frame(pairs, PAIRS)),
            examples=summary.examples(labelled, _frame(gate, GATE), _frame(problems, PROBLEMS)),
            paths=inputs | outputs,
        )
    )
    for folder in {path.parent for path in outputs.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    _write_json(manifest, described)
    _write_json(metrics, numbers)
    _write_json(frontier, summary.frontier(numbers, record.arm.name))
    curve.select(summary.CURVE_COLUMNS).write_csv(plots / "training.csv")
    html.write_text(page)
    _print(cells, outputs)


def _frame(path: Path, table: Table) -> pl.DataFrame:
    return pl.from_arrow(read_table(path, table))


def _write_json(path: Path, value: dict | list) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def _print(cells: list[Cell], outputs: dict[str, Path]) -> None:
    console = Console()
    head = ("data", "state", "hack rate", "solve rate", "solve, no hint")
    rates = TerminalTable(*head, title="Rates, 95% intervals", box=SIMPLE, padding=(0, 1, 0, 0))
    for cell in cells:
        shown = [_words(rate) for rate in (cell.hack, cell.solve, cell.solve_unhinted)]
        rates.add_row(DATA_NAMES[cell.data], STATE_NAMES[cell.state], *shown, end_section=cell.state == "deployed")
    console.print(rates)
    for what, path in outputs.items():
        console.print(f"{what} -> {path}", highlight=False, soft_wrap=True)


def _words(rate: Rate) -> str:
    return "undefined" if rate.value is None else f"{rate.value:.2f} ({rate.low:.2f}-{rate.high:.2f})"


if __name__ == "__main__":
    run_stage(main)
