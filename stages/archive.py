"""Write a run, or a campaign's finished cells, as a folder of Parquet tables to publish, with a dataset card."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from projected_grpo.core.errors import InputError
from projected_grpo.core.runtime import run_stage
from projected_grpo.reporting.archive import pack
from projected_grpo.reporting.saved import fetch

EXAMPLE = "python -m stages.archive --rev workspace --campaign campaigns/toy2 --seed 101 --slim --out ARCHIVE"


def main(
    rev: Annotated[str, typer.Option(help="Git revision or experiment; workspace names the working folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the archive, written; must not exist.")],
    campaign: Annotated[Path | None, typer.Option(help="Folder of a campaign, whose finished cells are archived.")] = None,
    seed: Annotated[list[int], typer.Option(help="With --campaign: only the cells of this seed; repeat the option.")] = [],
    slim: Annotated[bool, typer.Option(help="Leave out readings, tokens and log-probabilities.")] = False,
) -> None:
    if seed and not campaign:
        raise InputError("--seed chooses cells of a campaign; give --campaign too")
    if out.exists():
        raise InputError(f"{out}: exists already; name a new folder")
    with TemporaryDirectory() as folder:
        saved = fetch(rev, campaign, Path(folder), model=False, seeds=seed)
        pack(saved, Path(folder), out, slim)
    print(f"{len(saved.runs)} runs -> {out}")


if __name__ == "__main__":
    run_stage(main)
