"""Write what an arm reads in place of an input that it does not use, so that a change of that input re-runs no training."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.parquet import write_table
from projected_grpo.runtime import run_stage
from projected_grpo.tables import DEMONSTRATIONS, PAIRS


def main(
    cut_pairs: Annotated[Path, typer.Option(help="Table pairs for cuts that need no pairs, written.")],
    demonstrations: Annotated[Path, typer.Option(help="Table demonstrations for a curriculum without any, written.")],
    heal_pairs: Annotated[Path, typer.Option(help="Table pairs for a curriculum that does not heal, written.")],
) -> None:
    write_table(cut_pairs, PAIRS, [])
    write_table(demonstrations, DEMONSTRATIONS, [])
    write_table(heal_pairs, PAIRS, [])
    print(f"nothing -> {cut_pairs}, {demonstrations}, {heal_pairs}")


if __name__ == "__main__":
    run_stage(main)
