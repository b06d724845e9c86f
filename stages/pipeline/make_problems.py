"""Write the problems that training sees, and apart from them what only the ground-truth monitor may read."""

import json
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import write_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.load import load_environment, refuse_ground_truth
from projected_grpo.environment.sources import digest, require_apart
from projected_grpo.problems.admission import check_tasks
from projected_grpo.problems.code import CodeTasks
from projected_grpo.prompts.modes import HELD_OUT_WORDS
from projected_grpo.settings.arm import load_settings


def main(
    problems: Annotated[Path, typer.Option(help="Table problems, written.")],
    ground_truth: Annotated[Path, typer.Option(help="Table ground_truth, written.")],
) -> None:
    settings = load_settings()
    profile = settings.profile
    if profile.environment == "code":
        rows, truths = of_code(settings.profile_name, CodeTasks(profile.problems, profile.grading))
    else:
        require_apart(profile.environment, profile.ground_truth)
        refuse_ground_truth()
        given = json.dumps(profile.problems.own, sort_keys=True)  # so that all is made anew where code or settings change
        rows = load_environment(profile.environment, profile.problems, profile.grading).rows(f"{digest(profile.environment)} {given}")
        judge = f"{profile.ground_truth} {digest(profile.ground_truth)} {given}"
        truths = [{"problem_id": row["problem_id"], "heldout_tests": judge, "canonical_solution": ""} for row in rows]
    write_table(problems, PROBLEMS, rows)
    write_table(ground_truth, GROUND_TRUTH, truths)
    print(f"{len(rows)} problems -> {problems}")


def of_code(profile: str, environment: CodeTasks) -> tuple[list[dict], list[dict]]:
    """Rows of both tables. Each task is tried once, with its canonical solution."""
    rows, truths = Checked("code", environment).rows(), environment.truths
    if not any(row["split"] == "test" and row["mode"] in HELD_OUT_WORDS for row in rows):
        raise InputError(
            f"profiles/{profile}.yaml: key 'problems.test': no test problem has a mode with words of its own ("
            f"{', '.join(HELD_OUT_WORDS)}), which the evaluation shows in held-out words; raise it"
        )
    with environment:
        check_tasks(rows, truths, environment.sandbox)
    return rows, truths


if __name__ == "__main__":
    run_stage(main)
