"""The forward pass on merged weights computes what transformers' own computes through the adapter, in each state, for each family that
it knows; another family is refused."""

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from projected_grpo.core.base import Base
from projected_grpo.core.seeds import derive_seeds
from projected_grpo.policy.adapter import ABLATED, adapter_state
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import read_deployed
from projected_grpo.sampling.cache import roomy_cache
from projected_grpo.sampling.decode import DROP_BELOW
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.sampling.merged import Merged, StateRows, require_known
from projected_grpo.sampling.protocol import Request, SamplingError, State
from verify.tiny import end_often, tiny_init, tiny_tokenizer

SIZES = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
STRETCHED = {  # the wavelengths of a head's pairs lie on both sides of these bounds
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
FAMILIES = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=4),
    "llama, grouped heads, tied": LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True),
    "llama, one key head, stretched": LlamaConfig(**SIZES, num_key_value_heads=1, head_dim=16, rope_parameters=STRETCHED),
    "qwen3": Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=12, tie_word_embeddings=False),
    "qwen3, tied": Qwen3Config(**SIZES, num_key_value_heads=4, head_dim=16, tie_word_embeddings=True),
}
PROMPTS = [[4, 5, 6], [7, 8, 9, 10, 11, 12], [13], [4, 5, 6], [14, 15], [7, 8, 9, 10]]
PROMPT_STATES: list[State] = ["base", "base", "full", "full", "deployed", "deployed"]
every_family = pytest.mark.parametrize("family", FAMILIES)


def policy_of(config: PreTrainedConfig) -> Policy:
    """Random weights, norms among them, and an adapter whose blocks both have moved."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(torch.rand_like(weight) + 0.5 if weight.dim() == 1 else 3 * weight)
    policy = Policy(Base(model, tiny_tokenizer()), tiny_init(model), 2.0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape))
    return policy


@torch.no_grad()
def through_the_adapter(policy: Policy, state: State, tokens: list[int]) -> Tensor:
    """Logits (V) after these tokens, which are alone in the batch and the cache."""
    with adapter_state(policy.context, enabled=state != "base", **({"state": ABLATED} if state == "deployed" else {})):
        return policy.base.model(torch.tensor([tokens])).logits[0, -1]


@every_family
def test_logits_equal_those_of_transformers_at_the_prompt_at_each_step_and_after_rows_were_dropped(family):
    policy = policy_of(FAMILIES[family])
    merged = Merged(policy)
    merged.merge(set(PROMPT_STATES))
    rows, states, longest, room = [list(prompt) for prompt in PROMPTS], list(PROMPT_STATES), max(map(len, PROMPTS)), 9
    cache, rng = roomy_cache(policy.base.model.config, room), torch.Generator().manual_seed(0)
    mask = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in rows])
    tokens = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    position = (mask.cumsum(1) - 1).clamp(min=0)

    def check() -> None:
        found = merged.logits(tokens, mask, position, cache, StateRows.of(states))
        expected = torch.stack([through_the_adapter(policy, state, row) for state, row in zip(states, rows, strict=True)])
        assert expected.std() > 0.3
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    check()
    for kept in ([0, 0, 1, 2, 2, 2, 3, 4, 5, 5], [1, 2, 5, 6, 7, 9], [0, 3, 5]):
        cache.batch_select_indices(torch.tensor(kept))
        rows, states, mask = [list(rows[row]) for row in kept], [states[row] for row in kept], mask[kept]
        for _ in range(3):
            tokens = torch.randint(3, 300, (len(rows), 1), generator=rng)
            rows = [row + new for row, new in zip(rows, tokens.tolist())]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            position = torch.tensor([[len(row) - 1] for row in rows])
            check()
    assert cache.layers[0].keys.shape[2] == longest + room


@every_family
def test_completions_are_those_drawn_through_the_adapter_with_the_trainer_s_log_probabilities(family):
    policy, copies = policy_of(FAMILIES[family]), 12
    end_often(policy)
    requests = [Request(state, PROMPTS[:3], copies, derive_seeds(3, 7, state)) for state in ("base", "full", "deployed")]
    merged, adapted = (LocalSampler(policy, max_new_tokens=24, rows=1024, merged=way).sample(requests) for way in (True, False))
    prompts = [prompt for prompt in PROMPTS[:3] for _ in range(copies)]
    ended = [len(completion.tokens) for completions in merged for completion in completions if len(completion.tokens) < 24]
    assert len(set(ended)) > 3 and len(ended) > (1 - DROP_BELOW) * len(prompts) * len(requests)  # rows were dropped along the way
    for request, found, other in zip(requests, merged, adapted, strict=True):
        assert [completion.tokens for completion in found] == [completion.tokens for completion in other]
        batch = TokenBatch.collate(prompts, [completion.tokens for completion in found])
        with torch.no_grad(), adapter_state(policy.context, enabled=request.state != "base"):
            expected = read_deployed(policy, batch, [])[1] if request.state == "deployed" else policy.logp(batch)
        for one, two, logp in zip(found, other, expected):
            logprob = torch.tensor(one.logprob)
            torch.testing.assert_close(logprob, torch.tensor(two.logprob), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(logprob, logp[: len(logprob)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("asked", [{"base"}, {"full"}, {"full", "deployed"}])
def test_weights_of_the_states_that_were_asked_for_are_held_and_no_others(asked):
    merged = Merged(policy_of(FAMILIES["qwen3"]))
    for states in ({"base", "full", "deployed"}, asked):
        merged.merge(states)
    assert [set(held) for held in merged.weights] == [asked, asked]
    frozen = {weight.data_ptr() for weight in merged.policy.base.model.parameters()}
    own = [weight for held in merged.weights for fused in held.values() for weight in fused if weight.data_ptr() not in frozen]
    assert len(own) == 2 * (2 if asked == {"base"} else 4 * len(asked))  # of the base, those that are fused


@pytest.mark.parametrize(
    "config, message",
    [
        (Qwen2Config(**SIZES), "model_type is 'qwen2'; .* it is 'llama' or 'qwen3'"),
        (LlamaConfig(**SIZES, attention_bias=True), "attention_bias is True; .* it is False"),
        (LlamaConfig(**SIZES, mlp_bias=True), "mlp_bias is True; .* it is False"),
        (LlamaConfig(**SIZES, hidden_act="gelu"), "hidden_act is 'gelu'; .* it is 'silu'"),
        (LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}), "rope_type is 'dynamic'; .* it is 'default' or 'llama3'"),
        (Qwen3Config(**SIZES, num_key_value_heads=4, use_sliding_window=True), "use_sliding_window is True; .* it is False"),
    ],
    ids=["family", "attention bias", "mlp bias", "activation", "rotation", "window"],
)  # fmt: skip
def test_a_model_that_this_forward_pass_does_not_compute_is_refused(config, message):
    policy = policy_of(config)
    with pytest.raises(SamplingError, match=f"sampling.engine is merged, and the base model's {message}; set sampling.engine=adapted"):
        LocalSampler(policy, max_new_tokens=4, rows=8, merged=True)
    LocalSampler(policy, max_new_tokens=4, rows=8, merged=False)
    for known in FAMILIES.values():
        require_known({**known.to_dict(), **known.rope_parameters})
