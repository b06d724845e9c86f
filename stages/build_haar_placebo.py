"""Draw the placebo: K Haar-random directions of the same shape as v_act. No pair and no problem is read."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import write_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import DIRECTIONS
from projected_grpo.gate.directions import direction_rows, haar
from projected_grpo.policy.readings import bare_widths
from projected_grpo.settings.arm import load_settings


def main(
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    out: Annotated[Path, typer.Option(help="Folder for direction.parquet, written.")],
) -> None:
    settings = load_settings()
    model = load_base(base, settings.scale.model.device).model
    rows = []
    for reading in settings.gate.features:
        widths = bare_widths(model, settings.adapter.rank, reading)
        draws = haar(list(widths.values()), settings.placebo.draws, settings.adapter.seed)
        rows += [row for k, draw in enumerate(draws) for row in direction_rows("haar", k, reading, widths, draw)]
    write_table(out / "direction.parquet", DIRECTIONS, rows)
    print(f"{settings.placebo.draws} draws at {', '.join(settings.gate.features)} -> {out}")


if __name__ == "__main__":
    run_stage(main)
