"""Ask the exported adapters the same questions, through plain transformers and PEFT, and print the answers side by side."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.seeds import derive_seed
from projected_grpo.core.tables import PROBLEMS
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.load import load_environment
from projected_grpo.settings.arm import load_settings

TITLES = {"full": "full (as trained)", "deployed": "deployed (quarantine reset)"}
EXAMPLE = "python -m stages.serve_check --base artifacts/base --adapter artifacts/adapter"


def main(
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    adapter: Annotated[Path, typer.Option(help="Folder of the exported adapters, deployed/ and full/.")],
    table: Annotated[Path, typer.Option(help="Table problems.")] = Path("artifacts/problems.parquet"),
    problems: Annotated[int, typer.Option(min=1, help="Held-out problems to ask, each with its hint.")] = 3,
    prompt: Annotated[str | None, typer.Option(help="Ask this instead of held-out problems.")] = None,
    seed: Annotated[int | None, typer.Option(help="Sample with this seed, both models with the same one; greedy without.")] = None,
) -> None:
    from projected_grpo.core.base import load_base
    from projected_grpo.prompts.prompts import render_text, system_of
    from projected_grpo.reporting.served import answer, check_prompting, load_exports

    profile = load_settings().profile
    loaded = load_base(base, profile.model.device)
    check_prompting(loaded, base, profile)
    model = load_exports(loaded, adapter)
    prompts = [prompt] if prompt is not None else held_out_prompts(load_environment(profile.environment, profile.problems, profile.grading), table, problems)
    console = Console()
    for number, text in enumerate(prompts):
        stream = None if seed is None else derive_seed(seed, "serve-check", number)
        tokens = render_text(loaded, text, system_of(profile.environment))
        answers = {state: answer(model, loaded, state, tokens, profile.sampling, stream) for state in TITLES}
        shown = Table(*TITLES.values(), title=Text(text.strip()), title_justify="left", title_style="bold", box=SIMPLE, expand=True)
        shown.add_row(*(Text(answers[state]) for state in TITLES))
        console.print(shown)


def held_out_prompts(environment: Checked, table: Path, count: int) -> list[str]:
    """Of the first problems of the test split, with the hint of their mode."""
    rows = [row for row in read_rows(table, PROBLEMS) if row["split"] == "test"]
    return [environment.prompt(row, row["mode"]) for row in rows[:count]]


if __name__ == "__main__":
    run_stage(main)
