"""Make the base model: pretrain the toy one, or convert the published checkpoint to a plain transformers folder."""

import time
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.parquet import read_rows
from projected_grpo.policy.gguf import fetch_and_convert
from projected_grpo.policy.pretrain import pretrain
from projected_grpo.runtime import deterministic, run_stage
from projected_grpo.settings import load_settings
from projected_grpo.tables import PROBLEMS


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    out: Annotated[Path, typer.Option(help="Folder for the transformers checkpoint, written.")],
) -> None:
    deterministic()
    model = load_settings().scale.model
    if model.kind == "gguf":
        fetch_and_convert(model, out)
        return
    began = time.monotonic()

    def progress(step: int, loss: float) -> None:
        if (step + 1) % max(1, model.steps // 20) == 0:
            spent = time.monotonic() - began
            left = spent / (step + 1) * (model.steps - step - 1)
            print(f"step {step + 1:>5}/{model.steps}  loss {loss:.3f}  left {left:.0f} s", flush=True)

    pretrain(read_rows(problems, PROBLEMS), model, out, progress)


if __name__ == "__main__":
    run_stage(main)
