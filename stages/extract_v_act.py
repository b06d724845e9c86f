"""Extract v_act: the mean paired difference of pooled deployed-block bottleneck activations, unit norm per module."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.gate.directions import direction_rows, extract_v_act, pair_sides
from projected_grpo.parquet import read_rows, write_table
from projected_grpo.policy.base import load_base
from projected_grpo.policy.policy import Policy
from projected_grpo.runtime import deterministic, run_stage
from projected_grpo.settings import load_settings
from projected_grpo.tables import DIRECTIONS, PAIRS


def main(
    pairs: Annotated[Path, typer.Option(help="Table pairs.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    out: Annotated[Path, typer.Option(help="Folder for direction.parquet, and for the pairs where training refreshes, written.")],
) -> None:
    deterministic()
    settings = load_settings()
    policy = Policy(load_base(base), settings.adapter, temperature=1.0)  # for its activations alone
    rows = read_rows(pairs, PAIRS)
    direction = extract_v_act(policy, pair_sides(policy.base, rows), settings.scale.train.micro_batch)
    write_table(out / "direction.parquet", DIRECTIONS, direction_rows("v_act", 0, list(policy.layers), direction))
    if settings.gate.refresh_every:
        shutil.copyfile(pairs, out / "pairs.parquet")
    print(f"v_act from {len(rows)} pairs over {len(policy.layers)} modules -> {out}")


if __name__ == "__main__":
    run_stage(main)
