"""vLLM samples the policy that the trainer differentiates: equal greedy tokens, equal log-probabilities, in every state of
one mixed batch, and after each step those of the new weights."""

import math
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor

from projected_grpo.core.seeds import derive_seeds
from projected_grpo.policy.adapter import ABLATED, FULL, adapter_state
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.protocol import Completion, Request, Sampler, SamplingError
from verify_vllm.served import CONTEXT, LONGEST, prompts

STATES = ("full", "deployed", "base")
GREEDY, BROAD = 0.01, 2.0  # the lowest and the highest temperature that vLLM has
CERTAIN = 0.2  # lead of a logit that makes its token certain at the lowest one
TOLERANCE = 2e-4  # nats; 4e-5 is measured


def ask(sampler: Sampler, copies: int, states: tuple[str, ...] = STATES, seed: int = 0) -> dict[str, list[Completion]]:
    """Completions of all prompts in each state, from one call."""
    requests = [Request(state, prompts(), copies, derive_seeds(len(prompts()), seed, state)) for state in states]
    return dict(zip(states, sampler.sample(requests), strict=True))


@torch.no_grad()
def trainer_logp(policy: Policy, completions: list[Completion], state: str) -> list[Tensor]:
    """Of each completion, what the trainer computes for its tokens."""
    copies = len(completions) // len(prompts())
    rows = [prompt for prompt in prompts() for _ in range(copies)]
    batch = TokenBatch.collate(rows, [completion.tokens for completion in completions])
    with adapter_state(policy.context, enabled=state != "base"):
        found = policy.logp(batch, ABLATED if state == "deployed" else FULL)
    return [found[row, : len(completion.tokens)] for row, completion in enumerate(completions)]


def gap(policy: Policy, completions: list[Completion], state: str) -> float:
    """Largest difference between the sampler's log-probabilities and the trainer's in this state, nats."""
    expected = trainer_logp(policy, completions, state)
    return max(float((torch.tensor(c.logprob) - row).abs().max()) for c, row in zip(completions, expected))


@torch.no_grad()
def greedy(policy: Policy, completion: Completion, prompt: list[int], state: str) -> tuple[list[int], list[bool]]:
    """The trainer's likeliest token at each place of a completion, and whether it leads by enough to be certain."""
    with adapter_state(policy.context, enabled=state != "base", state=ABLATED if state == "deployed" else FULL):
        logits = policy.base.model(torch.tensor([prompt + completion.tokens])).logits[0, len(prompt) - 1 : -1]
    best = logits.topk(2)
    return best.indices[:, 0].tolist(), (best.values[:, 0] - best.values[:, 1] > CERTAIN).tolist()


def check_greedy(policy: Policy, found: dict[str, list[Completion]], local: dict[str, list[Completion]]) -> None:
    """Each certain token is the trainer's, and the local engine agrees up to the first one that is not certain."""
    certain_tokens = agreed_tokens = 0
    for state in STATES:
        for prompt, completion, other in zip(prompts(), found[state], local[state], strict=True):
            likeliest, certain = greedy(policy, completion, prompt, state)
            for token, best, sure in zip(completion.tokens, likeliest, certain, strict=True):
                assert token == best or not sure, (state, completion.tokens, likeliest)
            agreed = certain.index(False) if False in certain else len(certain)
            assert completion.tokens[:agreed] == other.tokens[:agreed], state
            certain_tokens, agreed_tokens = certain_tokens + sum(certain), agreed_tokens + agreed
    assert certain_tokens > 300 and agreed_tokens > 150  # of at most 360


def test_greedy_tokens_of_all_states_in_one_batch_are_those_of_the_local_engine(served):
    served.policy.temperature = GREEDY
    found = ask(served.vllm, 1)
    check_greedy(served.policy, found, ask(served.local, 1))
    assert found["full"] != found["deployed"] != found["base"] != found["full"]


def test_log_probabilities_are_the_trainer_s_of_that_state_at_that_temperature(served):
    served.policy.temperature = BROAD
    found = ask(served.vllm, 8)
    for state in STATES:
        gaps = {other: gap(served.policy, found[state], other) for other in STATES}
        print(f"{state}: largest difference {gaps[state]:.2e} nats")
        assert gaps.pop(state) < TOLERANCE
        assert min(gaps.values()) > 0.1
        tokens = [value for c in found[state] for value in c.logprob]
        assert sum(tokens) / len(tokens) < -1  # broad
    served.policy.temperature = 0.9 * BROAD
    assert gap(served.policy, found["full"], "full") > 0.1


def step(policy: Policy, completions: list[Completion]) -> None:
    """One optimizer step on the likelihood of completions."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    batch = TokenBatch.collate(prompts(), [c.tokens for c in completions])
    (-policy.logp(batch).sum()).backward()
    optimizer.step()


def test_after_an_optimizer_step_every_state_is_sampled_from_the_new_weights(served):
    """A stale adapter, or a stale cache of a prompt's first block, would leave the old log-probabilities."""
    served.policy.temperature = BROAD
    before = ask(served.vllm, 2)
    for _ in range(2):
        old = {state: trainer_logp(served.policy, before[state], state) for state in STATES}
        step(served.policy, [before["full"][i] for i in range(0, len(before["full"]), 2)])
        found = ask(served.vllm, 2)
        for state in STATES:
            assert gap(served.policy, found[state], state) < TOLERANCE, state
        for state in ("full", "deployed"):
            moved = [float((a - b).abs().max()) for a, b in zip(old[state], trainer_logp(served.policy, before[state], state))]
            assert min(moved) > 100 * TOLERANCE
            assert found[state] != before[state]
        assert [c.tokens for c in found["base"]] == [c.tokens for c in before["base"]]
        before = found


def test_the_end_token_is_the_last_one_and_has_a_log_probability(served):
    served.policy.temperature = BROAD
    end, ended = served.policy.base.eos_id, 0
    for state, completions in ask(served.vllm, 24, ("full", "deployed")).items():
        for completion, expected in zip(completions, trainer_logp(served.policy, completions, state)):
            assert len(completion.tokens) == len(completion.logprob) <= LONGEST
            assert end not in completion.tokens[:-1]
            if completion.tokens[-1] == end:
                ended += 1
                assert math.isclose(completion.logprob[-1], float(expected[-1]), abs_tol=TOLERANCE)
            else:
                assert len(completion.tokens) == LONGEST
    assert ended > 5


def test_first_tokens_have_the_frequencies_of_the_distribution(served):
    """With a seed of its own for each completion."""
    served.policy.temperature = BROAD
    draws, prompt = 1500, prompts()[1]
    full = served.vllm.settings
    served.vllm.settings = full.model_copy(update={"max_new_tokens": 1})
    try:
        sampled = served.vllm.sample([Request(state, [prompt], draws, [7]) for state in ("full", "deployed")])
    finally:
        served.vllm.settings = full
    for state, completions in zip(("full", "deployed"), sampled):
        vocabulary = torch.arange(300)
        batch = TokenBatch.collate([prompt] * 300, [[token] for token in vocabulary.tolist()])
        with torch.no_grad():
            probability = served.policy.logp(batch, ABLATED if state == "deployed" else FULL)[:, 0].double().exp()
        likely = (probability > 8 / draws).nonzero()[:, 0].tolist()
        chosen = [c.tokens[0] for c in completions]
        counts = [chosen.count(token) for token in likely]
        expected = [draws * float(probability[token]) for token in likely]
        counts.append(draws - sum(counts))
        expected.append(draws - sum(expected))
        assert len(likely) >= 5 and stats.chisquare(counts, expected).pvalue > 1e-3


def test_a_completion_is_its_seed_s_whatever_is_sampled_beside_it(served):
    served.policy.temperature = BROAD
    all_states = ask(served.vllm, 3)
    assert ask(served.vllm, 3) == all_states
    for state in ("full", "deployed"):
        alone = ask(served.vllm, 3, (state,))[state]
        assert [c.tokens for c in alone] == [c.tokens for c in all_states[state]]
    copies = all_states["full"][-3:]
    assert len({tuple(c.tokens) for c in copies}) == 3
    assert ask(served.vllm, 3, seed=1)["full"] != all_states["full"]


def test_nothing_of_an_adapter_is_left_after_a_call(served):
    folder = Path(tempfile.gettempdir())
    before = set(folder.glob("adapters-*"))
    ask(served.vllm, 1)
    assert set(folder.glob("adapters-*")) == before
    assert not served.vllm.engine.llm_engine.list_loras()


def test_a_rank_of_4r_is_served_in_the_smallest_rank_that_holds_it(served):
    assert served.vllm.engine.llm_engine.vllm_config.lora_config.max_lora_rank == 32


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(served):
    room = CONTEXT - LONGEST
    [[longest]] = served.vllm.sample([Request("full", [[9] * room], 1, [0])])
    assert len(longest.tokens) <= LONGEST
    with pytest.raises(SamplingError, match=f"has {room + 1} tokens, and sampling.max_prompt_tokens is {room}; raise it"):
        served.vllm.sample([Request("full", [[9], [9] * (room + 1)], 1, [0, 0])])


def test_vllm_is_imported_where_the_engine_is_vllm_alone():
    program = "import sys, stages.pipeline.train_arm; assert 'vllm' not in sys.modules and 'peft' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
