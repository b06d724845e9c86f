"""Extract directions from pairs: the mean paired difference of what the gate reads, unit norm per module.

v_act comes from the authored pairs, and so do its controls: shuffled (a random sign for each pair) and flipped.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.tables import DIFFERENCES, DIRECTIONS, PAIRS
from projected_grpo.gate.directions import direction_rows, pair_signs, paired_direction
from projected_grpo.gate.pairs import pair_differences, pair_tokens
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import module_widths
from projected_grpo.settings.arm import DRAWN, load_settings


def main(
    pairs: Annotated[Path, typer.Option(help="Table pairs.")],
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    init: Annotated[Path, typer.Option(help="Folder of the adapter's initialization.")],
    out: Annotated[list[Path], typer.Option(help="Folder for one direction, named for it, written; repeat the option.")],
) -> None:
    deterministic()
    settings = load_settings()
    policy = Policy(load_base(base, settings.scale.model.device), load_init(init, settings.adapter), settings.scale.sampling.temperature)
    rows = read_rows(pairs, PAIRS)
    differences = {}
    if rows:
        tokens = pair_tokens(policy.base, rows, settings.scale.environment)
        differences = pair_differences(policy, tokens, settings.gate.features, settings.scale.train.micro_tokens)
    for folder in out:
        write_table(folder / "direction.parquet", DIRECTIONS, _directions(settings, policy, folder.name, differences))
        if settings.gate.refresh_every:
            shutil.copyfile(pairs, folder / "pairs.parquet")
    saved = [
        {"pair_id": row["pair_id"], "reading": reading, "vector": vector}
        for reading, vectors in differences.items()
        for row, vector in zip(rows, vectors.tolist(), strict=True)
    ]
    write_table(out[0] / "differences.parquet", DIFFERENCES, saved)
    print(f"{', '.join(folder.name for folder in out)} from {len(rows)} pairs at {', '.join(differences) or 'no reading'}")


def _directions(settings, policy: Policy, name: str, differences: dict) -> list[dict]:
    rows = []
    for reading, vectors in differences.items():
        widths = module_widths(policy, reading)
        for draw in range(settings.placebo.draws if name in DRAWN else 1):
            signs = pair_signs(name, draw, len(vectors), settings.adapter.seed)
            direction = paired_direction(vectors, signs, list(widths.values()), settings.gate.extraction)
            rows += direction_rows(name, draw, reading, widths, direction)
    return rows


if __name__ == "__main__":
    run_stage(main)
