"""How a stage runs: deterministically, and with one clear message where its input cannot be used."""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import projected_grpo
from projected_grpo.core.errors import InputError

Params = Annotated[Path, typer.Option(help="Settings file of the arm.")]
Seed = Annotated[int | None, typer.Option(help="Seed of a campaign's cell, and draw of a direction that has draws.")]
PARAMS = Path("params.yaml")
OUTPUTS = "outputs"  # file among a finished run's checkpoints: the folder that the run wrote


def run_stage(main: Callable) -> None:
    """Run a stage's `main` as a command line, from the folder that holds the library."""
    home = Path(projected_grpo.__file__).resolve()
    if not home.is_relative_to(Path.cwd().resolve()):
        raise RuntimeError(f"the library was imported from {home}, not from the working folder {Path.cwd()}")
    run_anywhere(main)


def run_anywhere(main: Callable) -> None:
    """Run `main` as a command line, whose help is its module's docstring with an example. An InputError ends it with its message and
    exit status 1."""
    try:
        command(main)()
    except InputError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print("error:", str(error), markup=False, style="red")
        sys.exit(1)


def command(main: Callable) -> typer.Typer:
    """The example is the module's EXAMPLE, which a stage that DVC runs does without."""
    module, app = main.__globals__, typer.Typer(add_completion=False)
    shown = module.get("EXAMPLE", f"dvc repro, which runs python -m {module['__spec__'].name} with the paths in dvc.yaml")
    app.command(help=module["__doc__"], epilog=f"Example: {shown}")(main)
    return app


def scratch_root() -> Path:
    """Where checkpoints live: $PGRPO_SCRATCH, or a folder of the user's cache."""
    return Path(os.environ.get("PGRPO_SCRATCH", Path.home() / ".cache" / "projected_grpo" / "checkpoints")).absolute()


KEEP_FREED = {-1: (1 << 31) - 1, -2: 1 << 26, -3: 1 << 30}  # glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD; bytes


def deterministic() -> None:
    """Refuse non-deterministic kernels on the CPU: the same inputs and number of threads then give the same bytes.

    Freed memory stays with the process, since every step allocates tensors of the same sizes again and the kernel would
    clear each of their pages anew: a toy step takes a tenth less time.
    """
    import torch

    for parameter, value in KEEP_FREED.items():
        ctypes.CDLL(None).mallopt(parameter, value)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid: no kernel here reads what it has not written
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which deterministic matrix products on a GPU ask for
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())  # a cumulative sum has no such kernel there
