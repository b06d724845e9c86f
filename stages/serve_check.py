"""Ask the exported adapters the same questions, through plain transformers and PEFT, and print the answers side by side."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from peft import PeftModel
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import GenerationConfig

from projected_grpo.core.base import Base, ModelError, load_base
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.seeds import derive_seed
from projected_grpo.core.tables import PROBLEMS
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.load import load_environment
from projected_grpo.policy.export import STATES, check_export
from projected_grpo.policy.origin import AdapterError, digest
from projected_grpo.prompts.prompts import is_chat, render_text, system_of
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.profile import Profile, Sampling

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


def check_prompting(base: Base, folder: Path, profile: Profile) -> None:
    """Raises ModelError where the tokenizer cannot make the prompts that the profile's model was trained on."""
    if profile.model.kind != "toy" and not is_chat(base):
        raise ModelError(
            f"{folder}: its tokenizer has no chat template, and the profile's problems are asked in a chat; "
            "run the base_model stage again, or set the profile that the adapter was trained with"
        )
    if not is_chat(base) and base.tokenizer.bos_token is None:
        raise ModelError(f"{folder}: its tokenizer has neither a chat template nor a token that begins a text; run the base_model stage again")


def load_exports(base: Base, adapter: Path) -> PeftModel:
    """The base model with both exports beside it, by name. Raises AdapterError where one is missing or of another base model."""
    if not adapter.is_dir():
        raise AdapterError(f"{adapter}: is no folder; the stage report writes it, with {' and '.join(STATES)} in it")
    sha256 = digest(base.model)
    for state in STATES:
        check_export(adapter / state, sha256)
    model = PeftModel.from_pretrained(base.model, adapter / "full", adapter_name="full")
    model.load_adapter(adapter / "deployed", adapter_name="deployed")
    return model


def held_out_prompts(environment: Checked, table: Path, count: int) -> list[str]:
    """Of the first problems of the test split, with the hint of their mode."""
    rows = [row for row in read_rows(table, PROBLEMS) if row["split"] == "test"]
    return [environment.prompt(row, row["mode"]) for row in rows[:count]]


@torch.inference_mode()
def answer(model: PeftModel, base: Base, state: str, prompt: list[int], sampling: Sampling, seed: int | None) -> str:
    """The completion of one export; greedy where `seed` is None."""
    model.set_adapter(state)
    tokens = torch.tensor([prompt], device=base.device)
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0} if seed is not None else {"do_sample": False}
    config = GenerationConfig(max_new_tokens=sampling.max_new_tokens, eos_token_id=list(base.end_ids), pad_token_id=base.eos_id, **drawn)
    if seed is not None:
        torch.manual_seed(seed)
    out = model.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), generation_config=config)
    return base.decode(out[0, tokens.shape[1] :].tolist())


if __name__ == "__main__":
    run_stage(main)
