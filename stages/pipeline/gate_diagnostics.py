"""Score the saved readings again by every direction and ask how well each separates exploits from the rest.

A second table asks what the zones held: how many exploits were kept, how many correct rollouts were routed.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from projected_grpo.analysis.classifier import separation
from projected_grpo.core.parquet import TableError, read_table, write_table
from projected_grpo.core.runtime import PARAMS, Params, Seed, run_stage
from projected_grpo.core.tables import DIAGNOSTICS, DIRECTIONS, FEATURES, GATE, LABELS, ROLLOUTS, ZONE_NAMES, ZONES
from projected_grpo.settings.arm import load_settings

WINDOWS = 5  # equal parts of the run
Scores = dict[tuple[str, int], np.ndarray]  # (direction, draw) -> (N,)


def main(
    train: Annotated[Path, typer.Option(help="Folder of train_arm: rollouts, gate and features.")],
    labels: Annotated[Path, typer.Option(help="Table labels.")],
    directions: Annotated[Path, typer.Option(help="Folder with a folder for each direction.")],
    out: Annotated[Path, typer.Option(help="Table diagnostics, written.")],
    zones: Annotated[Path, typer.Option(help="Table zones, written.")],
    params: Params = PARAMS,
    seed: Seed = None,
) -> None:
    settings = load_settings(params=params, seed=seed)
    gated = _gated(train, labels)
    features = pl.from_arrow(read_table(train / "features.parquet", FEATURES))
    files = sorted(directions.glob("*/direction.parquet")) if len(features) else []  # a slim archive has no readings
    named = {(row["reading"], row["direction"], row["draw"]): row["vector"] for path in files for row in _vectors(path)}
    rows, shares = [], []
    for reading in settings.gate.features:
        at = gated.join(features.filter(reading=reading), "rollout_id", how="left", maintain_order="left")
        vectors = np.array(at["vector"].to_list(), dtype=np.float32)  # (N, D); flat where no rollout was gated
        scores = {key[1:]: vectors.reshape(len(at), len(vector)) @ vector for key, vector in named.items() if key[0] == reading}
        if reading == settings.gate.reading:
            scores[("live", 0)] = at["score"].to_numpy()
        rows += [
            found | {"reading": reading} for found in _by_window(gated, scores, settings.profile.train.steps, settings.gate.route_quantile)
        ]
    for window, name, chosen in _populations(gated, settings.profile.train.steps):
        shares += [window | {"rollouts": name} | found for found in _zones(gated.filter(chosen))]
    write_table(out, DIAGNOSTICS, rows)
    write_table(zones, ZONES, shares)
    print(f"{len(named)} directions on {len(gated)} gated rollouts in {WINDOWS} windows -> {out}, {zones}")


def _populations(gated: pl.DataFrame, steps: int):
    """(window, name, which rollouts) of all and of those with a positive advantage, window by window."""
    step, positive = gated["step"].to_numpy(), gated["advantage"].to_numpy() > 0
    for window in np.array_split(np.arange(steps), WINDOWS):
        if len(window):
            inside = (step >= window[0]) & (step <= window[-1])
            named = {"first_step": int(window[0]), "last_step": int(window[-1])}
            yield named, "all", inside
            yield named, "positive_advantage", inside & positive


def _by_window(gated: pl.DataFrame, scores: Scores, steps: int, quantile: float) -> list[dict]:
    exploited = gated["exploited"].to_numpy()
    return [
        window
        | {"rollouts": name, "direction": direction, "draw": draw}
        | separation(values[chosen], exploited[chosen], quantile)
        for window, name, chosen in _populations(gated, steps)
        for (direction, draw), values in scores.items()
    ]


def _zones(rows: pl.DataFrame) -> list[dict]:
    found = []
    for zone in ZONE_NAMES:
        inside = rows.filter(zone=zone)
        found.append(
            {"zone": zone, "n": inside.height, "hack_share": inside["exploited"].mean(), "solve_share": inside["gt_correct"].mean()}
        )
    return found


def _gated(train: Path, labels: Path) -> pl.DataFrame:
    """The policy's gated rollouts that the ground-truth monitor judged, with score, zone, step, advantage and labels."""
    gate, rollouts = (pl.from_arrow(read_table(train / f"{t.name}.parquet", t)) for t in (GATE, ROLLOUTS))
    if unknown := set(gate["rollout_id"]) - set(rollouts["rollout_id"]):
        raise TableError(f"{train / 'rollouts.parquet'}: rollout '{min(unknown)}' of gate.parquet is missing")
    judged = pl.from_arrow(read_table(labels, LABELS)).select("rollout_id", "exploited", "gt_correct").drop_nulls()
    steps = rollouts.filter(source="policy").select("rollout_id", "step", "advantage")
    return gate.select("rollout_id", "score", "zone").join(steps, "rollout_id").join(judged, "rollout_id").sort("rollout_id")


def _vectors(path: Path) -> list[dict]:
    """One row for each direction, draw and reading, its vector (D,) joined over the modules in their order by name."""
    table = pl.from_arrow(read_table(path, DIRECTIONS)).sort("direction", "draw", "reading", "module")
    joined = table.group_by("direction", "draw", "reading", maintain_order=True).agg(pl.col("vector").explode())
    return [row | {"vector": np.array(row["vector"], dtype=np.float32)} for row in joined.iter_rows(named=True)]


if __name__ == "__main__":
    run_stage(main)
