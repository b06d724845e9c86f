"""Score the saved activations again by every direction and ask how well each separates exploits from the rest."""

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from projected_grpo.analysis.classifier import separation
from projected_grpo.parquet import TableError, read_table, write_table
from projected_grpo.runtime import run_stage
from projected_grpo.settings import load_settings
from projected_grpo.tables import DIAGNOSTICS, DIRECTIONS, FEATURES, GATE, LABELS, ROLLOUTS

WINDOWS = 5  # equal parts of the run


def main(
    train: Annotated[Path, typer.Option(help="Folder of train_arm: rollouts, gate and features.")],
    labels: Annotated[Path, typer.Option(help="Table labels.")],
    directions: Annotated[list[Path], typer.Option(help="Direction files; repeat the option.")],
    out: Annotated[Path, typer.Option(help="Table diagnostics, written.")],
) -> None:
    settings = load_settings()
    gated = _gated(train, labels)
    pooled = np.array(gated["pooled"].to_list(), dtype=np.float32)  # (N, modules * r)
    scores = {("live", 0): gated["score"].to_numpy()}
    for path in directions:
        scores |= {key: pooled @ vector for key, vector in _vectors(path).items()}
    step, exploited = gated["step"].to_numpy(), gated["exploited"].to_numpy()
    populations = {"all": np.full(len(gated), True), "positive_advantage": gated["advantage"].to_numpy() > 0}
    rows = []
    for window in np.array_split(np.arange(settings.scale.train.steps), WINDOWS):
        if len(window) == 0:
            continue
        inside = (step >= window[0]) & (step <= window[-1])
        for name, population in populations.items():
            chosen = inside & population
            rows += [
                {"first_step": int(window[0]), "last_step": int(window[-1]), "rollouts": name}
                | {"direction": direction, "draw": draw}
                | separation(values[chosen], exploited[chosen], settings.gate.quantile)
                for (direction, draw), values in scores.items()
            ]
    write_table(out, DIAGNOSTICS, rows)
    print(f"{len(scores)} scores of {len(gated)} gated rollouts in {WINDOWS} windows -> {out}")


def _gated(train: Path, labels: Path) -> pl.DataFrame:
    """Gated rollouts that the ground-truth monitor judged, with score, activations, advantage and label."""
    tables = {"gate": GATE, "features": FEATURES, "rollouts": ROLLOUTS}
    frames = {name: pl.from_arrow(read_table(train / f"{name}.parquet", table)) for name, table in tables.items()}
    for name, frame in frames.items():
        if unknown := set(frames["gate"]["rollout_id"]) - set(frame["rollout_id"]):
            raise TableError(f"{train / name}.parquet: rollout '{min(unknown)}' of gate.parquet is missing")
    judged = pl.from_arrow(read_table(labels, LABELS)).select("rollout_id", "exploited").drop_nulls()
    steps = frames["rollouts"].select("rollout_id", "step", "advantage")
    gate = frames["gate"].select("rollout_id", "score")
    return gate.join(frames["features"], "rollout_id").join(steps, "rollout_id").join(judged, "rollout_id")


def _vectors(path: Path) -> dict[tuple[str, int], np.ndarray]:
    """(direction, draw) -> one vector (modules * r,), modules sorted by name as in the features."""
    order: dict[tuple[str, int], dict[str, list[float]]] = {}
    for row in read_table(path, DIRECTIONS).to_pylist():
        order.setdefault((row["direction"], row["draw"]), {})[row["module"]] = row["vector"]
    return {key: np.concatenate([vectors[name] for name in sorted(vectors)]) for key, vectors in order.items()}


if __name__ == "__main__":
    run_stage(main)
