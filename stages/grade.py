"""Grade programs from JSON lines, outside the pipeline: one answer a line, in order, as soon as those that came with it are known."""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.errors import InputError
from projected_grpo.core.runtime import run_anywhere
from projected_grpo.ground_truth.requests import answer
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.settings.profile import Grading

EXAMPLE = "python -m stages.grade requests.jsonl > answers.jsonl"


def main(
    requests: Annotated[Path, typer.Argument(help="JSON lines as in docs/grading.md: a file, or - for standard input.")] = Path("-"),
    cpu_s: Annotated[int, typer.Option(min=1, help="CPU seconds of a program; one that reaches them gets twice as many.")] = 2,
    wall_s: Annotated[int, typer.Option(min=1, help="Wall seconds of a program, the looser limit.")] = 20,
    memory_mb: Annotated[int, typer.Option(min=1, help="Memory of a program.")] = 1024,
    workers: Annotated[int | None, typer.Option(min=1, help="Programs under way at once; one a core if not given.")] = None,
) -> None:
    limits = Grading(cpu_s=cpu_s, wall_s=wall_s, memory_mb=memory_mb, workers=workers or len(os.sched_getaffinity(0)))
    with ExitStack() as stack:
        if str(requests) != "-" and (requests.is_dir() or not requests.exists()):
            raise InputError(f"{requests}: is no file; name a file of JSON lines, or - for standard input")
        lines = sys.stdin.buffer if str(requests) == "-" else stack.enter_context(requests.open("rb"))
        sandbox = stack.enter_context(Sandbox(limits))
        for line in answer(lines, sandbox):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    run_anywhere(main)
