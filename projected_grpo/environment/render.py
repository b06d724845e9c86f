"""The tokens of an environment's prompts, and whether they fit."""

from collections.abc import Sequence

from projected_grpo.core.base import Base
from projected_grpo.core.errors import ProblemError
from projected_grpo.environment.checked import Checked
from projected_grpo.prompts.modes import HELD_OUT_WORDS, Words, encode_words
from projected_grpo.prompts.prompts import INOCULATION, render_text, system_of
from projected_grpo.settings.profile import Sampling


def render(base: Base, environment: Checked, row: dict, mode: str, inoculated: bool = False) -> list[int]:
    """Token ids of the prompt. An inoculated prompt asks for the loophole."""
    asked = f"{INOCULATION}\n" if inoculated else ""
    return render_text(base, asked + environment.prompt(row, mode), system_of(environment.name))


def check_lengths(base: Base, environment: Checked, problems: Sequence[dict], sampling: Sampling, inoculated: bool = False) -> None:
    """Raises ProblemError where a problem's prompt with its hint, or the longest rollout, is longer than it may be.

    A test problem's prompt is measured in held-out words too, and all are as long as training shows them. Stages that sample
    call it before they begin.
    """
    positions = base.model.config.max_position_embeddings
    if (longest := sampling.max_prompt_tokens + sampling.max_new_tokens) > positions:
        raise ProblemError(
            f"sampling.max_prompt_tokens + sampling.max_new_tokens is {longest}, and the base model has {positions} positions; "
            "lower one of them"
        )
    worded = [row for problem in problems for row in _wordings(problem)]
    length, name = max((len(render(base, environment, row, row["mode"], inoculated)), row["problem_id"]) for row in worded)
    if length > sampling.max_prompt_tokens:
        raise ProblemError(
            f"problem {name}: its prompt has {length} tokens, the most of all problems, and sampling.max_prompt_tokens is "
            f"{sampling.max_prompt_tokens}; raise it to {length}, or leave long problems out (problems.max_prompt_chars of "
            "LeetCode problems)"
        )


def _wordings(problem: dict) -> list[dict]:
    """The problem as training shows it, and a test problem in each word that evaluation may show in place of one of ours."""
    worded = problem["split"] == "test" and problem["words"]
    families = zip(*HELD_OUT_WORDS.values(), strict=True) if worded else ()
    return [problem, *(problem | {"words": encode_words(Words(**dict(zip(HELD_OUT_WORDS, family))))} for family in families)]
