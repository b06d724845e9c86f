"""Make the adapter's initialization: drawn, from the SVD of the base model's weights, or also from the pairs."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.tables import PAIRS
from projected_grpo.settings.arm import load_settings


def main(
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    pairs: Annotated[Path, typer.Option(help="Table pairs, the authored ones, read where the initialization is made from pairs.")],
    out: Annotated[Path, typer.Option(help="Folder for init.safetensors, written.")],
) -> None:
    from projected_grpo.core.base import load_base
    from projected_grpo.gate.pairs import pair_tokens
    from projected_grpo.policy.inits import FROM_PAIRS, initialize, input_differences, save_init

    deterministic()
    settings = load_settings()
    loaded, differences = load_base(base, settings.profile.model.device), {}
    if settings.adapter.init in FROM_PAIRS:
        sides = pair_tokens(loaded, read_rows(pairs, PAIRS), settings.profile.environment)
        differences = input_differences(loaded.model, sides.hack, sides.clean, settings.profile.train.micro_tokens)
    init = initialize(loaded.model, settings.adapter, differences)
    save_init(init, out)
    print(f"initialization {settings.adapter.init} of {len(init.layers)} modules -> {out}")


if __name__ == "__main__":
    run_stage(main)
