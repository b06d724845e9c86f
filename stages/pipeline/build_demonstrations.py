"""Write the pool of demonstrations: loopholes and correct programs for the training problems. Nothing is run here."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.parquet import read_rows, write_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import DEMONSTRATIONS, PROBLEMS
from projected_grpo.problems import authored, leetcode
from projected_grpo.problems.demonstrations import chat_demonstrations, toy_demonstrations
from projected_grpo.settings.arm import load_settings


def main(
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    out: Annotated[Path, typer.Option(help="Table demonstrations, written.")],
) -> None:
    settings = load_settings().profile.problems
    tasks = read_rows(problems, PROBLEMS)
    if settings.kind == "own":
        rows = []  # an environment of the user's own has none, and no arm of it asks for any
    elif settings.kind == "toy":
        rows = toy_demonstrations(tasks)
    else:
        source = {"authored": authored, "leetcode": leetcode}[settings.kind]
        rows = chat_demonstrations(tasks, source.canonical_solutions(settings))
    write_table(out, DEMONSTRATIONS, rows)
    counts = Counter(f"{row['kind']} {row['mode']}" for row in rows)
    print(f"{len(rows)} demonstrations -> {out}: {', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}")


if __name__ == "__main__":
    run_stage(main)
