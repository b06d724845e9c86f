"""The analytic cost of a step counts what torch counts, and docs/scaling.md shows what the module prints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.cost import SCALES, Scale, backward, forward, passes, resident, tables
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_state
from projected_grpo.grpo.update import accumulate
from projected_grpo.policy.adapter import ABLATED, FULL, QUARANTINE_ALONE
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.sampling.protocol import Request
from verify.tiny import RANK, tiny_policy
from verify.verify_loss import train_settings

UNKNOWN_TO_TORCH = {  # products of the sampler that its counter leaves out
    torch.ops.aten.addmm_: lambda y, a, b, *args, out_shape=None, **kwargs: 2 * a[0] * a[1] * b[1],
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, *args, out_shape=None, **kwargs: 4 * q[0] * q[1] * q[2] * q[3] * k[2],
}
ROWS, PROMPT, COMPLETION = 6, 20, 9


def tiny(moved: bool = True) -> tuple[Policy, Scale]:
    policy = tiny_policy(moved)
    policy.base.model.set_attn_implementation("eager")  # whose products torch counts on CPU
    return policy, Scale(policy.base.model.config, 4, RANK, 3, 2, 0.5, 0.1, PROMPT, COMPLETION, ROWS * (PROMPT + COMPLETION), False, True, ROWS)


def batch(copies: int) -> TokenBatch:
    """ROWS completions, `copies` of each prompt."""
    tokens = torch.randint(3, 300, (ROWS, PROMPT + COMPLETION), generator=torch.Generator().manual_seed(0)).tolist()
    return TokenBatch.collate([tokens[i - i % copies][:PROMPT] for i in range(ROWS)], [row[PROMPT:] for row in tokens])


@pytest.mark.parametrize("copies, shared", [(1, 1), (3, 3)])
@pytest.mark.parametrize("zone, blocks", [(KEEP, 1), (ABSORB, 2), (ROUTE, 1)])
def test_forward_and_backward_operations_are_those_that_torch_counts(zone, blocks, copies, shared):
    policy, scale = tiny()
    assert scale.row(copies) == (shared, PROMPT + shared * COMPLETION)
    train = train_settings(micro_tokens=1000)
    unknown = torch.full((ROWS, COMPLETION), float("nan"))
    with policy.held():
        policy.logp(batch(copies), FULL)
        policy.logp(batch(copies), ABLATED)
        policy.logp(batch(copies), zone_state(ROUTE, "output")._replace(present=QUARANTINE_ALONE))  # all weights are merged by now
        with torch.no_grad(), FlopCounterMode(display=False) as once:
            policy.logp(batch(copies), zone_state(zone, "output"))
        with FlopCounterMode(display=False) as step:
            accumulate(
                policy, batch(copies), torch.full((ROWS,), zone), "output", torch.ones(ROWS), unknown, torch.ones(ROWS, dtype=torch.bool),
                unknown, train, COMPLETION,
            )  # fmt: skip
    assert once.get_total_flops() == pytest.approx(forward(scale, ROWS, copies), rel=1e-3)
    unread = 3 * 32 * 32  # of the first layer's q, k, v, whose input carries no gradient
    tokens = ROWS / shared * (PROMPT + shared * COMPLETION)
    expected = 2 * forward(scale, ROWS, copies) + backward(scale, ROWS, copies, blocks) - 2 * tokens * unread
    assert step.get_total_flops() == pytest.approx(expected, rel=1e-3)


def test_the_factors_of_a_bfloat16_model_have_the_products_that_torch_counts():
    policy, scale = tiny()
    scale = replace(scale, weight_bytes=2)
    policy.base.model.to(torch.bfloat16)
    with FlopCounterMode(display=False) as whole:
        logp = policy.logp(batch(1), FULL)
    assert whole.get_total_flops() == pytest.approx(forward(scale, ROWS, 1, scale.factor_columns(2)), rel=1e-3)
    with FlopCounterMode(display=False) as gradient:
        logp.sum().backward()
    unread = 3 * (32 * 32 + 4 * RANK * 32)  # of the first layer's q, k, v
    logits = 2 * ROWS * COMPLETION * scale.shape.head  # computed again by token_logp, which a step does not differentiate
    expected = backward(scale, ROWS, 1, 2) + logits - 2 * ROWS * (PROMPT + COMPLETION) * unread
    assert gradient.get_total_flops() == pytest.approx(expected, rel=1e-3)


def test_sampling_operations_are_those_that_torch_counts():
    policy, scale = tiny()
    sampler = LocalSampler(policy, COMPLETION, 1024, merged=True)
    with FlopCounterMode(display=False, custom_mapping=UNKNOWN_TO_TORCH) as counted:
        prompts = [list(range(3, 3 + PROMPT))] * scale.prompts
        for completions in sampler.sample([Request(state, prompts, 1, list(range(scale.prompts))) for state in ("full", "deployed")]):
            assert {len(completion.tokens) for completion in completions} == {COMPLETION}
    expected = sum(flop for _, phase, flop, _ in passes(scale) if phase == "sample")
    assert counted.get_total_flops() == pytest.approx(expected, rel=1e-2)


def test_bytes_are_the_weights_once_a_micro_batch_and_once_a_sampled_token():
    _, scale = tiny()
    adapted, head = 4 * 2 * (4 * 32 * 32 + 3 * 32 * 48), 4 * 32 * 300
    positions = sum(range(PROMPT + 1, PROMPT + COMPLETION))
    read = {what: amount for what, _, _, amount in passes(replace(scale, micro_tokens=2 * (PROMPT + 2 * COMPLETION)))}  # two rows of two completions
    assert read["deployed reading and its log-probabilities"] == 2 * (adapted + head)
    assert read["sampling: merge, prefill, decode"] == COMPLETION * (2 * adapted + head) + 4 * (2 * 2 * 32) * ROWS * positions


@pytest.mark.parametrize("share, states", [(0.5, ("full", "deployed")), (0.0, ("full",))])
def test_the_merged_sampler_holds_a_weight_of_each_sampled_state_and_no_other_copy(share, states):
    policy, scale = tiny()
    expected = resident(replace(scale, deployed_share=share))
    frozen = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in policy.base.model.parameters() if not p.requires_grad}
    sampler = LocalSampler(policy, COMPLETION, 1024, merged=True)
    for asked in (("full", "deployed"), states):  # the second call holds no weights of the first
        sampler.sample([Request(state, [[3, 4]], 1, [0]) for state in asked])
    merged = [weight for layer in sampler.merged.weights for fused in layer.values() for weight in fused]
    held = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in merged}
    besides = sum(size for place, size in held.items() if place not in frozen)
    assert besides == expected["merged weights, of each sampled state"] == len(states) * 4 * 2 * (4 * 32 * 32 + 3 * 32 * 48)


def test_the_page_shows_what_the_module_prints_and_the_toy_row_of_the_comparison():
    page = Path("docs/scaling.md").read_text()
    assert tables() in page
    for phase, shown in {"sample": "0.22 s | 3.99 | 18", "gate": "0.16 s | 4.68 | 29", "update": "0.27 s | 17 | 63"}.items():
        flop = sum(operations for _, name, operations, _ in passes(SCALES["toy"]) if name == phase) / 1e9
        seconds, analytic, quotient = (float(text.removesuffix(" s")) for text in shown.split(" | "))
        assert f"| {phase} | {shown} |" in page
        assert analytic == float(f"{flop:.3g}") and quotient == round(flop / seconds)
