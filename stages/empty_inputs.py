"""Write what an arm reads in place of an input that it does not use, so that a change of that input re-runs no training."""

import json
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.parquet import write_table
from projected_grpo.runtime import run_stage
from projected_grpo.tables import DEMONSTRATIONS, PAIRS


def main(
    pairs: Annotated[list[Path], typer.Option(help="Table pairs without a row, written; repeat the option.")],
    demonstrations: Annotated[Path, typer.Option(help="Table demonstrations without a row, written.")],
    monitor: Annotated[Path, typer.Option(help="Folder for an arm without a monitor, written.")],
) -> None:
    for path in pairs:
        write_table(path, PAIRS, [])
    write_table(demonstrations, DEMONSTRATIONS, [])
    monitor.mkdir(parents=True, exist_ok=True)
    (monitor / "monitor.json").write_text(json.dumps({"kind": "none"}) + "\n")
    print(f"nothing -> {', '.join(str(path) for path in [*pairs, demonstrations, monitor])}")


if __name__ == "__main__":
    run_stage(main)
