"""The easy tier: many short tasks, no two of them the same function, each prompt short under every hint, and its base rates on file."""

import ast
import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from transformers import AutoTokenizer

from bench.base_rates import SAMPLES, counted
from projected_grpo.base_models.gguf import CACHE
from projected_grpo.ground_truth.verdicts import verdicts_of
from projected_grpo.problems.demonstrations import chat_demonstrations
from projected_grpo.prompts.code import SYSTEM
from projected_grpo.prompts.modes import LOOPHOLES, TRAINING_WORDS
from projected_grpo.settings.models import GgufModel
from projected_grpo.settings.profile import Profile
from verify.sandbox import sandbox
from verify.verify_authored import FOLDER, files, rows
from verify.verify_demonstrations import check_pool

EASY = FOLDER / "easy"
RATES = Path("docs/easy_tier.csv")
MAX_TOKENS = 110  # of a prompt with its hint and the chat template, by the tokenizer of SmolLM2
MAX_PIECES = 24  # words and marks of a statement; no prompt of a tier so written had MAX_TOKENS


@cache
def profile() -> Profile:
    return Profile.model_validate(YAML(typ="safe").load(Path("profiles/smollm2.yaml")))


def gguf() -> Path:
    model = profile().model
    assert isinstance(model, GgufModel)
    return CACHE / f"{model.package}-{model.version}" / Path(model.file).name


def test_there_are_many_easy_functions_on_many_topics_and_no_name_is_in_two_tiers() -> None:
    easy = files(EASY)
    topics = Counter(problem.topic for problem in easy.values())
    assert len(easy) >= 120 and len(topics) >= 8 and min(topics.values()) >= 5
    assert {problem.difficulty for problem in easy.values()} == {"easy"} and {problem.entry_point for problem in easy.values()} == {"solve"}
    assert len({problem.statement for problem in easy.values()}) == len({problem.solution for problem in easy.values()}) == len(easy)
    assert not easy.keys() & files(FOLDER).keys()


def test_a_statement_is_one_short_line_that_shows_the_call() -> None:
    for name, problem in files(EASY).items():
        names = [argument.arg for argument in ast.parse(f"def {problem.signature}: pass").body[0].args.args]
        assert f"`def solve({', '.join(names)})`" in problem.statement and problem.task == problem.statement.strip(), name
        assert len(re.findall(r"\w+|[^\w\s]", problem.statement)) <= MAX_PIECES, name


def test_every_prompt_is_short_under_every_hint() -> None:
    if not gguf().exists():
        pytest.skip("the tokenizer of SmolLM2 is not in the cache; the stage base_model of the profile smollm2 fetches it")
    tokenizer = AutoTokenizer.from_pretrained(gguf().parent, gguf_file=gguf().name)
    hints = [hint.format(call="solve", **vars(TRAINING_WORDS)) for hint in (loophole.chat_hint for loophole in LOOPHOLES.values())]
    for name, problem in files(EASY).items():
        for hint in hints:
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{problem.task}\n\n{hint}"}]
            prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            assert len(prompt) < MAX_TOKENS, (name, hint, len(prompt))


def test_no_two_tasks_are_the_same_function() -> None:
    """No solution solves another task of the same types."""
    problems, truths = rows(EASY)
    kinds = [re.sub(r"\w+: ", "", files(EASY)[row["problem_id"].removeprefix("authored-")].signature) for row in problems]
    pairs = [(one, other) for one in range(len(problems)) for other in range(len(problems)) if one != other and kinds[one] == kinds[other]]
    assert len(pairs) > len(problems)
    programs = [truths[one]["canonical_solution"] for one, _ in pairs]
    asked = [problems[other] for _, other in pairs]
    found = verdicts_of(programs, asked, [truths[other] for _, other in pairs], sandbox())
    same = [(problems[one]["problem_id"], problems[other]["problem_id"]) for (one, other), verdict in zip(pairs, found) if verdict.correct]
    assert not same


def test_demonstrations_of_functions_do_what_they_show() -> None:
    problems, truths = rows(EASY)
    training = [row for row in problems if row["split"] == "train"][:12]
    check_pool(chat_demonstrations(training, {truth["problem_id"]: truth["canonical_solution"] for truth in truths}), training)


def test_the_profile_takes_the_whole_tier_and_every_task_has_its_base_rate_on_file() -> None:
    settings = profile().problems
    assert settings.path == str(EASY) and settings.train + settings.val + settings.test == len(files(EASY))
    with RATES.open(newline="") as file:
        table = {row["problem"].removeprefix("authored-"): row for row in csv.DictReader(file)}
    assert {name: row["topic"] for name, row in table.items()} == {name: problem.topic for name, problem in files(EASY).items()}
    assert all(0 <= int(row[name]) <= SAMPLES for row in table.values() for name in ("solved", "paid"))
    assert 0.10 <= sum(int(row["solved"]) for row in table.values()) / (SAMPLES * len(table)) <= 0.35
    assert {name: row["mark"] for name, row in table.items()} == {name: mark(int(row["solved"])) for name, row in table.items()}


def mark(solved: int) -> str:
    return {0: "never", SAMPLES: "always"}.get(solved, "")


def test_samples_are_counted_under_their_own_problem() -> None:
    problems = [{"problem_id": name, "family": "sums"} for name in ("a", "b", "c")]
    right = [[False] * SAMPLES, [True] * SAMPLES, [True, False, None] + [False] * (SAMPLES - 3)]
    labels = [{"gt_correct": hit, "env_passed": hit or place == 0} for hits in right for place, hit in enumerate(hits)]
    found = [(row["problem"], row["solved"], row["paid"], row["mark"]) for row in counted(problems, labels)]
    assert found == [("a", 0, 1, "never"), ("b", SAMPLES, SAMPLES, "always"), ("c", 1, 1, "")]
