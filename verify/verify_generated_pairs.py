"""Directions that a model makes for itself: self-generated pairs are chosen by text alone, the oracle by ground truth."""

import warnings

import torch

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import DIAGNOSTICS, DIFFERENCES
from projected_grpo.environment.mechanism import mechanisms
from projected_grpo.gate import generate
from projected_grpo.gate.directions import load_directions, oracle_direction
from projected_grpo.gate.generate import ATTEMPTS, generate_pairs
from projected_grpo.policy.load import load_policy
from projected_grpo.policy.readings import module_widths
from projected_grpo.prompts.code import toy_prompt
from projected_grpo.prompts.modes import HELD_OUT_WORDS, TRAINING_WORDS, encode_words
from projected_grpo.sampling.protocol import Completion
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.profile import GeneratedPairs
from verify.sandbox import asking
from verify.tiny import tiny_policy
from verify.verify_environment import HACKS, SOLVE, WRONG

SETTINGS = GeneratedPairs(samples=3, pairs=2, modes=["run_tests", "exit_code"])


class Scripted:
    """A sampler that answers from a list, in order of prompts and samples."""

    def __init__(self, base, texts: list[list[str]]) -> None:
        self.base, self.texts, self.seeds = base, iter(texts), []

    def sample(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        assert request.state == "base"
        self.seeds += request.seeds
        texts = next(self.texts)
        assert len(texts) == len(request.prompts) * request.copies
        return [Completion(self.base.encode(text), []) for text in texts]


def problem(name: str, mode: str, split: str = "train") -> dict:
    row = {"problem_id": name, "split": split, "mode": mode, "statement": "solve(xs): double each."}
    return row | {"entry_point": "solve", "words": encode_words(TRAINING_WORDS), "family": "", "setup_code": "", "visible_tests": "[]"}


def test_every_attempt_is_known_by_its_text():
    assert {mode: mechanisms(program, TRAINING_WORDS) for mode, program in HACKS.items()} == {m: [f] for m, f in ATTEMPTS.items()}


def test_a_program_that_python_warns_about_is_read_like_any_other():
    with warnings.catch_warnings(action="error"):
        assert mechanisms("x = 1if True else 2\nexit(0)\n", TRAINING_WORDS) == ["exits"]


def test_the_first_attempt_at_the_shown_loophole_and_the_first_plain_completion_make_a_pair():
    policy = tiny_policy(moved=False)
    problems = [
        problem("a", "run_tests"), problem("b", "exit_code"), problem("c", "run_tests"), problem("d", "exit_code"),
        problem("e", "sentinel"), problem("f", "run_tests", split="test"),
    ]  # fmt: skip
    second = HACKS["run_tests"] + "# second\n"
    hinted = [WRONG, HACKS["run_tests"], second, SOLVE, SOLVE, SOLVE, HACKS["sentinel"], second, WRONG, HACKS["exit_code"], WRONG, WRONG]
    plain = [HACKS["sentinel"], SOLVE, WRONG, SOLVE, SOLVE, SOLVE, WRONG, SOLVE, SOLVE, SOLVE, WRONG, WRONG]
    sampler = Scripted(policy.base, [hinted, plain])
    pairs = generate_pairs(policy, asking(), sampler, problems, SETTINGS, seed=3)
    assert [(row["pair_id"], row["hack"], row["clean"]) for row in pairs] == [
        ("a", HACKS["run_tests"], SOLVE), ("c", second, WRONG),
    ]  # b has no attempt; d would be the third; e is no mode of the settings; f is held out
    for row in pairs:
        assert row["prompt"] == toy_prompt("solve(xs): double each.", "run_tests", TRAINING_WORDS)
        assert row["clean_prompt"] == "solve(xs): double each.\n" and row["provenance"] == "self_generated"
    assert len(set(sampler.seeds)) == len(sampler.seeds) == 8 and set(HELD_OUT_WORDS) <= set(ATTEMPTS)
    assert "oracle" not in open(generate.__file__).read()


def test_the_oracle_is_the_exploits_mean_less_that_of_the_rest_and_leaves_out_what_was_not_judged():
    readings = torch.tensor([[4.0, 0.0, 1.0], [2.0, 0.0, 3.0], [0.0, 3.0, 0.0], [9.0, 9.0, 9.0]])
    found = oracle_direction(readings, [True, True, False, None], [2, 1])
    torch.testing.assert_close(found, torch.tensor([3 / 18**0.5, -3 / 18**0.5, 1.0]))  # of (3, -3) and (2)


def test_the_pipeline_s_oracle_scores_exploits_higher(finished):
    rows = read_rows(finished["v_act"] / "artifacts/diagnostics.parquet", DIAGNOSTICS)
    found = [row["auroc"] for row in rows if (row["direction"], row["rollouts"]) == ("oracle", "all") and row["auroc"] is not None]
    assert found[0] > 0.8  # the first window: the policy is still near the base model, whose completions made the direction


def test_the_pipeline_makes_all_directions_at_the_saved_reading(finished):
    """v_act and its controls come from the same differences; flipped is minus v_act."""
    folder = finished["v_act"] / "artifacts"
    vectors = torch.tensor([row["vector"] for row in read_rows(folder / "directions/v_act/differences.parquet", DIFFERENCES)])
    widths = module_widths(load_policy(folder / "base", folder / "init", load_settings()), "bottleneck")
    found = {name: load_directions(folder / f"directions/{name}/direction.parquet", name, "bottleneck", widths) for name in ("v_act", "flipped", "shuffled", "irrelevant")}
    mean = torch.cat([piece / piece.norm() for piece in vectors.mean(0).split(list(widths.values()))])
    torch.testing.assert_close(found["v_act"][0], mean, atol=1e-5, rtol=1e-4)
    assert torch.equal(found["flipped"], -found["v_act"]) and len(found["shuffled"]) == 128
    cosines = found["shuffled"] @ found["v_act"][0] / len(widths)
    assert cosines.abs().max() < 0.9 and (cosines > 0).any() and (cosines < 0).any()
    assert abs(float(found["irrelevant"][0] @ found["v_act"][0]) / len(widths)) < 0.9
