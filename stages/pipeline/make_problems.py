"""Write the problems that training sees, and apart from them what only the ground-truth monitor may read."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import write_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import GROUND_TRUTH, PROBLEMS
from projected_grpo.problems import authored, leetcode
from projected_grpo.problems.admission import check_tasks
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.prompts.modes import HELD_OUT_WORDS, MODES
from projected_grpo.settings.arm import load_settings
from projected_grpo.toy_world import toy


def main(
    problems: Annotated[Path, typer.Option(help="Table problems, written.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth, written.")],
) -> None:
    settings = load_settings()
    source = {"toy": toy, "authored": authored, "leetcode": leetcode}[settings.scale.problems.kind]
    rows, truths = source.make_problems(settings.scale.problems, MODES)
    if not any(row["split"] == "test" and row["mode"] in HELD_OUT_WORDS for row in rows):
        raise InputError(
            f"profiles/{settings.profile}.yaml: key 'problems.test': no test problem has a mode with words of its own ("
            f"{', '.join(HELD_OUT_WORDS)}), which the evaluation shows in held-out words; raise it"
        )
    with Sandbox(settings.scale.grading) as sandbox:
        check_tasks(rows, truths, sandbox)
    write_table(problems, PROBLEMS, rows)
    write_table(ground_truth, GROUND_TRUTH, truths)
    print(f"{len(rows)} problems -> {problems}")


if __name__ == "__main__":
    run_stage(main)
