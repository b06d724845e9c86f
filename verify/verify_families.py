"""Families whose logits are scaled or capped: policy, judge and sampler give what the model itself gives."""

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig, PreTrainedConfig

from projected_grpo.core.base import Base
from projected_grpo.grpo.tripwire import require_agreement
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.sampling.protocol import Request, SamplingError
from verify.tiny import tiny_batch, tiny_init, tiny_tokenizer

SHAPE = dict(
    vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
    max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
FAMILIES = {
    "plain": LlamaConfig(**SHAPE),
    "scaled down": GraniteConfig(**SHAPE, logits_scaling=5.0, embedding_multiplier=3.0),
    "scaled": CohereConfig(**SHAPE, logit_scale=7.0),
    "capped": Gemma2Config(**SHAPE, final_logit_softcapping=2.0),
}


def policy_of(config: PreTrainedConfig) -> Policy:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(6.0)  # logits that a cap or a scale changes
    return Policy(Base(model, tiny_tokenizer()), tiny_init(model), temperature=1.0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_log_probabilities_are_those_of_the_models_own_logits(family: str):
    policy, batch = policy_of(FAMILIES[family]), tiny_batch()
    model, found = policy.base.model, policy.logp(batch)
    for row, (length, count) in enumerate(zip(batch.prompt_length.tolist(), batch.completion_length.tolist())):
        prompt, completion = batch.tokens[row, :length].tolist(), batch.tokens[row, length : length + count].tolist()
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]
        torch.testing.assert_close(found[row, : len(completion)], expected, rtol=1e-4, atol=1e-4)
        plain = model.lm_head(model.model(torch.tensor([prompt + completion])).last_hidden_state)[0, len(prompt) - 1 : -1]
        assert (family == "plain") == torch.allclose(plain, logits, atol=1e-3), "the family does what the gate is about"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sampler_has_the_same_distribution(family: str):
    policy = policy_of(FAMILIES[family])
    [completions] = LocalSampler(policy, max_new_tokens=6, rows=64, merged=False).sample([Request("full", [[4, 5, 6]], 8, [1])])
    for completion in completions:
        logits = policy.base.model(torch.tensor([[4, 5, 6, *completion.tokens]])).logits[0, 2:-1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprob), expected, rtol=1e-4, atol=1e-4)


def test_a_sampler_that_is_another_model_than_the_trainer_is_refused_in_float32_alone():
    require_agreement(None, torch.float32)
    require_agreement(0.09, torch.float32)
    require_agreement(0.3, torch.bfloat16)
    with pytest.raises(SamplingError, match="differ by 0.3 nats"):
        require_agreement(0.3, torch.float32)
