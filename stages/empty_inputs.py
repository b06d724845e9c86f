"""Write what an arm reads in place of an input that it does not use, so that a change of that input re-runs no training."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.parquet import write_table
from projected_grpo.runtime import run_stage
from projected_grpo.tables import PAIRS


def main(
    cut_pairs: Annotated[Path, typer.Option(help="Table pairs for cuts that need no pairs, written.")],
) -> None:
    write_table(cut_pairs, PAIRS, [])
    print(f"no pairs -> {cut_pairs}")


if __name__ == "__main__":
    run_stage(main)
