"""Write a run, or a campaign's finished cells, as a folder of Parquet tables to publish, with a dataset card."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from projected_grpo.errors import InputError
from projected_grpo.reporting.archive import pack
from projected_grpo.reporting.saved import fetch
from projected_grpo.runtime import run_stage


def main(
    rev: Annotated[str, typer.Option(help="Git revision or experiment; workspace names the working folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the archive, written; must not exist.")],
    campaign: Annotated[Path | None, typer.Option(help="Folder of a campaign, whose cells are archived.")] = None,
) -> None:
    if out.exists():
        raise InputError(f"{out}: exists already; name a new folder")
    with TemporaryDirectory() as folder:
        saved = fetch(rev, campaign, Path(folder), model=False)
        pack(saved, Path(folder), out)
    print(f"{len(saved.runs)} runs -> {out}")


if __name__ == "__main__":
    run_stage(main)
