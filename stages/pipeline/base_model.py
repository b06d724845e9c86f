"""Make the base model, a plain transformers folder: pretrained (toy), converted, from a hub or a folder, or random at a shape."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.tables import PROBLEMS
from projected_grpo.settings.arm import load_settings


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    out: Annotated[Path, typer.Option(help="Folder for the transformers checkpoint, written.")],
) -> None:
    import torch

    from projected_grpo.base_models import gguf, hub
    from projected_grpo.base_models.pretrain import pretrain
    from projected_grpo.base_models.shape import write_shape
    from projected_grpo.core.base import require_fast

    deterministic()
    model, rows = load_settings().profile.model, read_rows(problems, PROBLEMS)
    if model.kind == "toy":
        pretrain(rows, model, out, progress(model.steps))
        return
    require_fast(getattr(torch, model.dtype), model.device, "model.dtype")
    if model.kind == "gguf":
        gguf.fetch_and_convert(model, out)
    elif model.kind == "hub":
        hub.fetch_and_save(model, out)
    elif model.kind == "folder":
        hub.copy_and_save(model, out)
    else:
        write_shape(model, [row["statement"] for row in rows], out)


def progress(steps: int) -> Callable[[int, float], None]:
    """Prints a line every twentieth of the steps."""
    began = time.monotonic()

    def line(step: int, loss: float) -> None:
        if (step + 1) % max(1, steps // 20) == 0:
            spent = time.monotonic() - began
            left = spent / (step + 1) * (steps - step - 1)
            print(f"step {step + 1:>5}/{steps}  loss {loss:.3f}  left {left:.0f} s", flush=True)

    return line


if __name__ == "__main__":
    run_stage(main)
