"""On a CUDA GPU: sampling in a graph, readings, and a step's gradients are those of the CPU, up to float32."""

import pytest
import torch

from projected_grpo.core.seeds import derive_seeds
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE
from projected_grpo.grpo.update import accumulate
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.readings import READINGS, read_deployed
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.sampling.protocol import Request
from projected_grpo.settings.arm import load_settings
from verify.tiny import base_logp, tiny_batch, tiny_policy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")

PROMPTS = [[4, 5, 6], [7, 8, 9, 10, 11, 12], [13]]
STATES = ("full", "deployed", "base")
LIKE = {"rtol": 1e-3, "atol": 2e-4}


def requests(seed: int) -> list[Request]:
    return [Request(state, PROMPTS, 20, derive_seeds(len(PROMPTS), seed, state)) for state in STATES]


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_log_probabilities_of_graph_sampling_equal_the_trainers_on_the_cpu(merged, kv_heads):
    policy, there = (tiny_policy(moved=True, temperature=2.0, kv_heads=kv_heads, device=device) for device in ("cpu", "cuda"))
    sampler = LocalSampler(there, max_new_tokens=40, rows=1024, merged=merged)
    prompts = [prompt for prompt in PROMPTS for _ in range(20)]
    lengths = set()
    for state, completions in zip(STATES, sampler.sample(requests(0)), strict=True):
        batch = TokenBatch.collate(prompts, [completion.tokens for completion in completions])
        with torch.no_grad():
            expected = {"full": policy.logp, "base": lambda b: base_logp(policy, b), "deployed": lambda b: read_deployed(policy, b, [])[1]}[state](batch)
        for row, completion in enumerate(completions):
            assert policy.base.eos_id not in completion.tokens[:-1]
            assert completion.tokens[-1] == policy.base.eos_id or len(completion.tokens) == 40
            torch.testing.assert_close(torch.tensor(completion.logprob), expected[row, : len(completion.tokens)], **LIKE)
            lengths.add(len(completion.tokens))
    assert len(lengths) > 5


def test_graph_sampling_is_reproducible_follows_an_update_and_does_not_depend_on_the_rows_beside():
    policy = tiny_policy(moved=True, temperature=2.0, device="cuda")
    sampler = LocalSampler(policy, max_new_tokens=20, rows=1024, merged=False)
    first = sampler.sample(requests(1))
    assert sampler.sample(requests(1)) == first and sampler.sample(requests(2)) != first
    alone = sampler.sample([Request("full", PROMPTS[:1], 20, derive_seeds(3, 1, "full")[:1])])
    assert [c.tokens for c in alone[0]] == [c.tokens for c in first[0][:20]]
    with torch.no_grad():
        for layer in policy.layers.values():
            layer.dB += 0.05
    after = sampler.sample(requests(1))
    assert after[0] != first[0] and after[2] == first[2]
    assert sampler.sample([Request("full", PROMPTS, 1, [1, 2, 3])])[0][0].tokens  # other shapes


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_the_shortest_limits_hold(longest):
    sampler = LocalSampler(tiny_policy(moved=True, device="cuda"), max_new_tokens=longest, rows=1024, merged=True)
    assert max(len(c.tokens) for completions in sampler.sample(requests(0)) for c in completions) == longest


def test_readings_equal_those_of_the_cpu():
    here, there = (read_deployed(tiny_policy(moved=True, device=device), tiny_batch(), list(READINGS)) for device in ("cpu", "cuda"))
    for reading in READINGS:
        torch.testing.assert_close(there[0][reading], here[0][reading], **LIKE)
    torch.testing.assert_close(there[1], here[1], **LIKE)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("masking", ["output", "parameter"])
def test_a_step_s_gradients_and_ratios_equal_those_of_the_cpu(recompute, masking):
    train = load_settings().profile.train.model_copy(update={"micro_tokens": 64})
    batch, found = tiny_batch(), []
    for device in ("cpu", "cuda"):
        policy = tiny_policy(moved=True, device=device)
        if recompute:
            policy.recompute_layers()
        zones = torch.tensor([KEEP, ABSORB, ROUTE] * 2)
        old = torch.full(batch.completion_mask().shape, -4.0)
        gain, matches = torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0]), torch.tensor([True, True, False] * 2)
        update = accumulate(policy, batch, zones, masking, gain, old, matches, old, train, 16)
        found.append((update, [parameter.grad.cpu() for parameter in policy.parameters()]))
    (here, expected), (there, gradients) = found
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    for name in ("rho", "kl", "mismatch"):
        torch.testing.assert_close(getattr(there, name), getattr(here, name), **LIKE)
    assert there.loss == pytest.approx(here.loss, rel=1e-3, abs=1e-6)
