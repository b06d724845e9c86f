"""The decode loop samples the trainer's distribution: log-probabilities, frequencies, the end token, and fresh weights."""

import pytest
import torch
from scipy import stats

from projected_grpo.core.seeds import derive_seeds
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.readings import read_deployed
from projected_grpo.sampling.decode import Decoded
from projected_grpo.sampling.graph import Decoding, fixed_kernels
from projected_grpo.sampling.local import LocalSampler, Prompt, _parts
from projected_grpo.sampling.protocol import Request
from verify.tiny import end_often, tiny_policy

PROMPTS = [[4, 5, 6], [7, 8, 9, 10, 11, 12], [13]]


def sampled(policy, deployed: bool, copies: int = 8, seed: int = 0, longest: int = 12):
    return ask(LocalSampler(policy, max_new_tokens=longest, rows=1024, merged=True), PROMPTS, copies, seed, "deployed" if deployed else "full")


def ask(sampler, prompts, copies: int, seed: int, state: str = "full"):
    [completions] = sampler.sample([Request(state, prompts, copies, derive_seeds(len(prompts), seed))])
    return completions


def trainer_logp(policy, completions, copies: int, deployed: bool) -> torch.Tensor:
    prompts = [prompt for prompt in PROMPTS for _ in range(copies)]
    batch = TokenBatch.collate(prompts, [completion.tokens for completion in completions])
    with torch.no_grad():
        return read_deployed(policy, batch, [])[1] if deployed else policy.logp(batch)


def test_log_probabilities_equal_the_trainers_in_both_states_and_for_every_length():
    policy = tiny_policy(moved=True, temperature=4.0)
    end_often(policy)
    for deployed in (False, True):
        completions = sampled(policy, deployed, copies=40, longest=30)
        expected = trainer_logp(policy, completions, 40, deployed)
        assert len({len(completion.tokens) for completion in completions}) > 2
        assert sum(len(completion.tokens) < 30 for completion in completions) > len(completions) / 2  # rows were dropped along the way
        for row, completion in enumerate(completions):
            found = torch.tensor(completion.logprob)
            torch.testing.assert_close(found, expected[row, : len(found)], rtol=1e-4, atol=1e-4)


def test_an_existing_sampler_follows_the_policy_s_temperature():
    policy = tiny_policy(moved=True, temperature=4.0)
    sampler = LocalSampler(policy, max_new_tokens=12, rows=1024, merged=True)
    broad = ask(sampler, PROMPTS, 8, seed=0)
    policy.temperature = 0.5
    narrow = ask(sampler, PROMPTS, 8, seed=0)
    assert narrow != broad
    for completion, expected in zip(narrow, trainer_logp(policy, narrow, 8, deployed=False), strict=True):
        found = torch.tensor(completion.logprob)
        torch.testing.assert_close(found, expected[: len(found)], rtol=1e-4, atol=1e-4)


def test_the_two_states_differ_and_follow_an_update_once_loaded():
    policy = tiny_policy(moved=True)
    full, deployed = sampled(policy, False), sampled(policy, True)
    assert full != deployed
    with torch.no_grad():
        for layer in policy.layers.values():
            layer.dB[:, : layer.rank] += 0.05
    assert sampled(policy, True) != deployed
    policy.reset_quarantine()
    assert sampled(policy, False) == sampled(policy, True)


def test_a_completion_ends_with_its_first_end_token_or_at_the_limit():
    policy = tiny_policy(moved=True, temperature=1.7)
    completions = sampled(policy, False, copies=30)
    ended = [completion.tokens for completion in completions if policy.base.eos_id in completion.tokens]
    assert ended and all(tokens.index(policy.base.eos_id) == len(tokens) - 1 for tokens in ended)
    assert all(len(c.tokens) == 12 for c in completions if policy.base.eos_id not in c.tokens)
    assert all(len(c.tokens) == len(c.logprob) for c in completions)


@pytest.mark.parametrize("merged", [True, False])
def test_every_end_token_of_the_checkpoint_ends_a_completion(merged: bool):
    policy = tiny_policy(moved=True, temperature=1.7)
    sampler = LocalSampler(policy, max_new_tokens=12, rows=64, merged=merged)
    free = [completion.tokens for completion in ask(sampler, [[4, 5, 6]] * 30, 1, seed=1)]
    other = max(set(sum((tokens[:-1] for tokens in free), [])), key=lambda token: sum(token in tokens[:-1] for tokens in free))
    policy.base.model.generation_config.eos_token_id = [policy.base.eos_id, other]
    assert policy.base.end_ids == (policy.base.eos_id, other)
    ended = [completion.tokens for completion in ask(sampler, [[4, 5, 6]] * 30, 1, seed=1)]
    assert ended != free
    for before, after in zip(free, ended, strict=True):
        cut = before.index(other) + 1 if other in before else len(before)
        assert after == before[:cut]
    assert policy.base.decode([5, other, policy.base.eos_id]) == policy.base.decode([5])


def test_first_tokens_have_the_frequencies_of_the_distribution():
    policy = tiny_policy(moved=True)
    sampler = LocalSampler(policy, max_new_tokens=1, rows=1024, merged=True)
    draws = [completion.tokens[0] for completion in ask(sampler, [[4, 5, 6]], 4000, seed=1)]
    with torch.no_grad():
        probability = policy.base.model(torch.tensor([[4, 5, 6]])).logits[0, -1].softmax(0).double()
    likely = (probability > 0.005).nonzero()[:, 0].tolist()
    counts = [draws.count(token) for token in likely]
    expected = [4000 * float(probability[token]) for token in likely]
    counts.append(4000 - sum(counts))
    expected.append(4000 - sum(expected))
    assert len(likely) > 5 and stats.chisquare(counts, expected).pvalue > 1e-3


def test_through_the_adapter_and_in_parts_the_completions_are_those_of_merged_weights():
    """No weight is copied or changed, layers may be checkpointed, and the context is as it was."""
    policy = tiny_policy(moved=True, temperature=2.0)
    policy.recompute_layers()
    before = {name: tensor.clone() for name, tensor in policy.base.model.state_dict().items()}
    merged = LocalSampler(policy, max_new_tokens=12, rows=1024, merged=True)
    adapted = LocalSampler(policy, max_new_tokens=12, rows=8, merged=False)  # two prompts at once, then one
    for state in ("base", "full", "deployed"):
        expected, found = (ask(sampler, PROMPTS, 4, 5, state) for sampler in (merged, adapted))
        assert [c.tokens for c in found] == [c.tokens for c in expected]
        for one, other in zip(found, expected):
            torch.testing.assert_close(torch.tensor(one.logprob), torch.tensor(other.logprob), rtol=1e-4, atol=1e-4)
    assert adapted.model is policy.base.model and policy.base.model.training
    assert policy.context.enabled and policy.context.present is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.base.model.state_dict().items())


def test_a_row_does_not_depend_on_the_rows_beside_it():
    policy = tiny_policy(moved=True)
    sampler = LocalSampler(policy, max_new_tokens=12, rows=1024, merged=True)
    beside_one = ask(sampler, [PROMPTS[0], PROMPTS[1]], 4, seed=3)[:4]
    beside_another = ask(sampler, [PROMPTS[0], PROMPTS[2]], 4, seed=3)[:4]
    assert [c.tokens for c in beside_one] == [c.tokens for c in beside_another]
    assert ask(sampler, PROMPTS, 4, seed=3) == ask(sampler, PROMPTS, 4, seed=3)
    assert ask(sampler, PROMPTS, 4, seed=3) != ask(sampler, PROMPTS, 4, seed=4)


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_a_step_of_fixed_shapes_decodes_what_the_growing_cache_does(kv_heads, merged, monkeypatch):
    """The step that a GPU captures, run here as it is: rows that have ended draw on, and nothing of that is recorded."""

    def in_steps(forward, start, distribution):
        with fixed_kernels(policy.base.model.config):
            decoding = Decoding(forward, start, distribution)
            for _ in range(start.uniform.shape[1]):
                decoding.step()
        assert not decoding.running.all()
        return Decoded(decoding.tokens, decoding.logprob, decoding.length)

    policy = tiny_policy(moved=True, temperature=1.7, kv_heads=kv_heads)
    sampler = LocalSampler(policy, max_new_tokens=12, rows=1024, merged=merged)
    expected = ask(sampler, PROMPTS, 30, 5, "deployed")
    attention = policy.base.model.config._attn_implementation
    monkeypatch.setattr("projected_grpo.sampling.local.decode", in_steps)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        found = ask(sampler, PROMPTS, 30, 5, "deployed")
        assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert [c.tokens for c in found] == [c.tokens for c in expected]
    for one, other in zip(found, expected):
        torch.testing.assert_close(torch.tensor(one.logprob), torch.tensor(other.logprob), rtol=1e-4, atol=1e-4)
    assert policy.base.model.config._attn_implementation == attention


@pytest.mark.parametrize("merged", [True, False])
def test_rows_of_all_states_beside_each_other_draw_what_each_state_draws_alone(merged):
    """The states come in another order than that of the rows, and most rows of each end along the way."""
    policy = tiny_policy(moved=True, temperature=4.0)
    end_often(policy)
    requests = [Request(state, PROMPTS, copies, derive_seeds(3, 7, state)) for state, copies in (("deployed", 30), ("full", 40), ("base", 20))]
    whole, in_parts = (LocalSampler(policy, max_new_tokens=30, rows=rows, merged=merged) for rows in (1024, 75))
    alone = [whole.sample([request])[0] for request in requests]
    for together in (whole.sample(requests), in_parts.sample(requests)):
        for found, expected in zip(together, alone, strict=True):
            assert [c.tokens for c in found] == [c.tokens for c in expected] and len({len(c.tokens) for c in found}) > 2
            assert sum(len(c.tokens) < 30 for c in found) > len(found) / 2
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(torch.tensor(one.logprob), torch.tensor(other.logprob), rtol=1e-4, atol=1e-4)


def test_rows_of_all_states_go_through_the_adapter_beside_each_other_and_follow_an_update():
    policy = tiny_policy(moved=True, temperature=2.0)
    merged, adapted = (LocalSampler(policy, max_new_tokens=12, rows=1024, merged=way) for way in (True, False))
    requests = [Request(state, PROMPTS, copies, derive_seeds(3, 7, state)) for state, copies in (("full", 6), ("base", 1), ("deployed", 2))]

    def tokens(sampler) -> list[list[list[int]]]:
        return [[c.tokens for c in completions] for completions in sampler.sample(requests)]

    before = tokens(adapted)
    assert before == tokens(merged) and [len(completions) for completions in before] == [18, 3, 6]
    with torch.no_grad():
        for layer in policy.layers.values():
            layer.dB += 0.05
    in_parts = LocalSampler(policy, max_new_tokens=12, rows=9, merged=False)  # a prompt's nine completions in one part
    assert [[prompt.copies for prompt in part] for part in _parts([Prompt([1], n, 0, "full") for n in (6, 1, 2) * 2], 9)] == [[6, 1, 2]] * 2
    after = tokens(adapted)
    assert after == tokens(in_parts) and after == tokens(merged) and after[0] != before[0] and after[1] == before[1]
