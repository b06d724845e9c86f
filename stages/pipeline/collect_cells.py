"""Gather what the finished cells of a campaign measured: a table of runs and a table of problems."""

import json
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from projected_grpo.analysis.metrics import metrics
from projected_grpo.analysis.outcomes import outcomes
from projected_grpo.analysis.rates import two_by_two
from projected_grpo.analysis.results import CELLS, OUTCOMES
from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import read_rows, read_table, write_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import DIAGNOSTICS, EVAL, STEPS, ZONE_NAMES, ZONES
from projected_grpo.reporting.manifest import Arm
from projected_grpo.settings.arm import DRAWN, load_settings
from projected_grpo.settings.campaign import load_campaign

EXAMPLE = "dvc repro campaigns/toy2/dvc.yaml:report"


def main(
    campaign: Annotated[Path, typer.Option(help="Settings file of the campaign.")],
    cells: Annotated[Path, typer.Option(help="Folder of the cells: <arm>/<seed>/.")],
    arms: Annotated[Path, typer.Option(help="Folder of the arms: <arm>/params.yaml.")],
    out: Annotated[Path, typer.Option(help="Table cells, written.")],
    problems: Annotated[Path, typer.Option(help="Table outcomes, written.")],
) -> None:
    settings = load_campaign(campaign)
    found = [(arm, seed) for arm, seed in settings.runs if (cells / arm / seed / "eval.parquet").exists()]
    if not found:
        raise InputError(f"{cells}: holds no finished cell of {campaign}; run `python -m stages.campaign {campaign.parent}`")
    rows = {cell: read_rows(cells / Path(*cell) / "eval.parquet", EVAL) for cell in found}
    write_table(out, CELLS, [measured(*cell, cells / Path(*cell), arms, rows[cell]) for cell in found])
    write_table(problems, OUTCOMES, [row for (arm, seed), judged in rows.items() for row in outcomes(arm, int(seed), judged)])
    print(f"{len(found)} of {len(settings.runs)} cells -> {out}, {problems}")


def measured(name: str, seed: str, folder: Path, arms: Path, judged: list[dict]) -> dict:
    """The row of the table cells of one run, from its folder and its rows of the table eval."""
    settings = load_settings(params=arms / name / "params.yaml", seed=int(seed))
    run = json.loads((folder / "train" / "run.json").read_text())
    steps, diagnostics, zones = (
        pl.from_arrow(read_table(folder / f"{file}.parquet", table))
        for file, table in {"train/steps": STEPS, "diagnostics": DIAGNOSTICS, "zones": ZONES}.items()
    )
    return {
        "arm": name,
        "seed": int(seed),
        "draw": settings.gate.draw if settings.gate.direction in DRAWN else None,
        "uses_ground_truth": Arm.of(settings).uses_ground_truth,
        **metrics(two_by_two(judged), steps, diagnostics),
        **by_zone(zones),
        "diverged_at_step": run["diverged_at_step"],
    }


def by_zone(zones: pl.DataFrame) -> dict[str, float | None]:
    """Shares of the zones in the judged rollouts of training and in its exploits, from a run's table zones."""
    ours = zones.filter(rollouts="all").with_columns(exploits=pl.col("n") * pl.col("hack_share").fill_null(0.0))
    totals = {zone: ours.filter(zone=zone).select(pl.col("n", "exploits").sum()).row(0) for zone in ZONE_NAMES}
    n, exploits = (sum(values) for values in zip(*totals.values()))
    shares = {f"{zone}_share": totals[zone][0] / n if n else None for zone in ("keep", "route")}
    return shares | {f"{zone}_exploits": totals[zone][1] / exploits if exploits else None for zone in ZONE_NAMES}


if __name__ == "__main__":
    run_stage(main)
