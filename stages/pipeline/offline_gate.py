"""The offline gate test: does v_act separate a run's exploits better than Haar draws, and than its own pairs with other signs?

Every judged rollout of the policy is scored at every saved reading by whole directions, whatever the run's gate did.
The oracle direction, which uses ground truth, shows what labels give at that reading.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from projected_grpo.analysis.results import NULL_HISTOGRAMS, OFFLINE_GATE
from projected_grpo.core.parquet import TableError, read_rows, read_table, write_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import DIFFERENCES, DIRECTIONS, FEATURES, LABELS, ROLLOUTS
from projected_grpo.settings.arm import load_settings


def main(
    features: Annotated[Path, typer.Option(help="Table features.")],
    rollouts: Annotated[Path, typer.Option(help="Table rollouts.")],
    labels: Annotated[Path, typer.Option(help="Table labels.")],
    v_act: Annotated[Path, typer.Option(help="Folder of v_act, with the differences of its pairs.")],
    other: Annotated[list[Path], typer.Option(help="Folder of another direction; repeat the option.")],
    out: Annotated[Path, typer.Option(help="Table offline_gate, written.")],
    histograms: Annotated[Path, typer.Option(help="Table null_histograms, written.")],
) -> None:
    from projected_grpo.analysis.gate_test import gate_test
    from projected_grpo.analysis.offline import Judged

    settings = load_settings()
    gate, chosen = settings.gate, _judged(rollouts, labels)
    rows, bins = [], []
    for reading in gate.features:
        directions, widths = _directions([v_act, *other], reading)
        pairs = [row for row in read_rows(v_act / "differences.parquet", DIFFERENCES) if row["reading"] == reading]
        judged = Judged.of(
            _readings(features, reading, chosen["rollout_id"], sum(widths.values())),
            chosen["exploited"].to_numpy(),
            chosen["advantage"].to_numpy() > 0,
            directions.get("oracle"),
            gate.keep_quantile,
            gate.route_quantile,
        )
        differences = {row["pair_id"]: np.array(row["vector"], np.float32) for row in pairs}
        found, counts = gate_test(judged, directions, differences, widths, gate.extraction, settings.offline, settings.adapter.seed)
        rows += [{"reading": reading} | row for row in found]
        bins += [{"reading": reading} | row for row in counts]
        _say(reading, found)
    write_table(out, OFFLINE_GATE, rows)
    write_table(histograms, NULL_HISTOGRAMS, bins)


def _judged(rollouts: Path, labels: Path) -> pl.DataFrame:
    """The policy's rollouts that the ground-truth monitor judged, with advantage and label."""
    sampled = pl.from_arrow(read_table(rollouts, ROLLOUTS)).filter(source="policy").select("rollout_id", "advantage")
    judged = pl.from_arrow(read_table(labels, LABELS)).select("rollout_id", "exploited").drop_nulls()
    return sampled.join(judged, "rollout_id").sort("rollout_id")


def _readings(path: Path, reading: str, rollouts: pl.Series, width: int) -> np.ndarray:
    """Of the rollouts in their order, (N, D)."""
    saved = pl.from_arrow(read_table(path, FEATURES)).filter(reading=reading)
    at = rollouts.to_frame().join(saved, "rollout_id", how="left", maintain_order="left")
    if wrong := at.filter(pl.col("vector").list.len().ne_missing(width))["rollout_id"].to_list():
        where = f"{path}: rollout '{wrong[0]}', reading '{reading}'"
        raise TableError(f"{where}: the row is missing or has not {width} numbers; run train_arm again")
    return at["vector"].explode().to_numpy().reshape(len(at), width)


def _directions(folders: list[Path], reading: str) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Directions by name, and the widths of the modules.

    A folder after the first, v_act's, may hold no direction: without an exploit there is no oracle.
    """
    from projected_grpo.gate.directions import load_direction

    files = [folder / "direction.parquet" for folder in folders]
    held = {file: [row for row in read_rows(file, DIRECTIONS) if row["reading"] == reading] for file in files}
    widths = {row["module"]: len(row["vector"]) for row in held[files[0]]}
    made = [file for file in files if held[file] or file == files[0]]
    return {file.parent.name: load_direction(file, file.parent.name, 0, reading, widths).numpy() for file in made}, widths


def _say(reading: str, rows: list[dict]) -> None:
    """AUROC of each direction with its p-values and their floors."""
    for row in rows:
        if (row["part"], row["metric"]) == ("whole", "auroc") and row["value"] is not None:
            p = ", ".join(f"{null} p {row[f'{null}_p']:.4f} (floor {row[f'{null}_floor']:.4f})" for null in ("haar", "sign"))
            remark = f"; {row['remark']}" if row["remark"] else ""
            print(f"{reading}, {row['rollouts']}: AUROC of {row['direction']} {row['value']:.3f}, {p}{remark}")


if __name__ == "__main__":
    run_stage(main)
