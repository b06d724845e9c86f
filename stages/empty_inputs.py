"""Write what an arm reads in place of an input that it does not use, so that a change of that input re-runs no training."""

import json
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import write_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import DEMONSTRATIONS, PAIRS


def main(
    pairs: Annotated[list[Path], typer.Option(help="Table pairs without a row, written; repeat the option.")],
    demonstrations: Annotated[Path, typer.Option(help="Table demonstrations without a row, written.")],
    monitor: Annotated[list[Path], typer.Option(help="Folder, named for a kind of monitor that reads no file, written; repeat the option.")],
) -> None:
    for path in pairs:
        write_table(path, PAIRS, [])
    write_table(demonstrations, DEMONSTRATIONS, [])
    for folder in monitor:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "monitor.json").write_text(json.dumps({"kind": folder.name}) + "\n")
    print(f"nothing -> {', '.join(str(path) for path in [*pairs, demonstrations, *monitor])}")


if __name__ == "__main__":
    run_stage(main)
