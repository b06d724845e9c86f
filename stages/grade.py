"""Grade programs from JSON lines, outside the pipeline: one answer a line, in order, as each batch is done."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.env.sandbox.runner import Sandbox
from projected_grpo.errors import InputError
from projected_grpo.evaluation.requests import answer
from projected_grpo.runtime import run_stage
from projected_grpo.settings import load_settings


def main(
    requests: Annotated[Path, typer.Argument(help="JSON lines as in docs/grading.md: a file, or - for standard input.")],
) -> None:
    with ExitStack() as stack:
        if str(requests) != "-" and not requests.is_file():
            raise InputError(f"{requests}: is not a file; name a file of JSON lines, or - for standard input")
        lines = sys.stdin.buffer if str(requests) == "-" else stack.enter_context(requests.open("rb"))
        sandbox = stack.enter_context(Sandbox(load_settings().scale.grading))
        for line in answer(lines, sandbox):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    run_stage(main)
