"""What the gate reads, at each place of the network, against values taken from the modules themselves."""

import pytest
import torch

from projected_grpo.policy.adapter import ABLATED
from projected_grpo.policy.readings import READINGS, module_widths, read_deployed
from verify.tiny import RANK, tiny_batch, tiny_policy


def alone(policy, row: int) -> tuple[list[int], int]:
    """Tokens of one row of the tiny batch without its padding, and where its completion starts."""
    batch = tiny_batch()
    return batch.tokens[row, : int(batch.length[row])].tolist(), int(batch.prompt_length[row])


def outputs_by_hand(policy, tokens: list[int], names: list[str]) -> dict[str, torch.Tensor]:
    """Inputs and outputs of the named modules on one row, the quarantine reset for the time."""
    caught, handles = {}, []
    for name in names:
        module = policy.base.model.get_submodule(name)
        handles.append(module.register_forward_hook(lambda m, args, out, name=name: caught.__setitem__(name, (args[0], out))))
    saved = {name: tensor.clone() for name, tensor in policy.state().items()}
    policy.reset_quarantine()
    with torch.no_grad():
        policy.base.model(torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    policy.load_state(saved, "the saved copy")
    return caught


@pytest.mark.parametrize("reading", READINGS)
def test_a_reading_is_as_wide_as_its_modules_and_does_not_depend_on_the_rows_beside_it(reading):
    policy, batch = tiny_policy(moved=True), tiny_batch()
    widths = module_widths(policy, reading)
    assert list(widths) == sorted(widths)
    together = read_deployed(policy, batch, [reading])[0][reading]
    assert together.shape == (len(batch), sum(widths.values()))
    for row in range(len(batch)):
        single = read_deployed(policy, batch.select(torch.tensor([row])), [reading])[0][reading]
        torch.testing.assert_close(together[row], single[0], rtol=1e-3, atol=1e-4)


def test_the_residual_reading_is_the_stream_after_each_layer():
    policy = tiny_policy(moved=True)
    found = read_deployed(policy, tiny_batch(), ["residual"])[0]["residual"].view(6, 2, 32)
    for row in (0, 3):
        tokens, start = alone(policy, row)
        caught = outputs_by_hand(policy, tokens, ["model.layers.0", "model.norm"])
        first = caught["model.layers.0"][1]
        first = first[0] if isinstance(first, tuple) else first
        torch.testing.assert_close(found[row, 0], first.reshape(-1, 32)[start:].mean(0), rtol=1e-3, atol=1e-4)
        last = caught["model.norm"][1].reshape(-1, 32)[start:].mean(0)  # the last layer's is read after the final norm
        torch.testing.assert_close(found[row, 1], last, rtol=1e-3, atol=1e-4)


def test_the_output_reading_is_b_a_x_of_the_deployed_block():
    policy = tiny_policy(moved=True)
    found = read_deployed(policy, tiny_batch(), ["output"])[0]["output"]
    tokens, start = alone(policy, 2)
    caught = outputs_by_hand(policy, tokens, list(policy.layers))
    expected = []
    for name, layer in policy.layers.items():
        x = caught[name][0][0, start:]
        with torch.no_grad():
            expected.append((x @ (layer.A0 + layer.dA)[:RANK].T @ (layer.B0 + layer.dB)[:, :RANK].T).mean(0))
    torch.testing.assert_close(found[2], torch.cat(expected), rtol=1e-3, atol=1e-4)


def test_the_gradient_reading_is_the_derivative_of_the_likelihood_by_finite_differences():
    """The factor on a bottleneck coordinate h_k multiplies its contribution B_k h_k to the layer's output."""
    policy, batch = tiny_policy(moved=True), tiny_batch()
    found = read_deployed(policy, batch, ["gradient"])[0]["gradient"].view(6, len(policy.layers), RANK)
    names = list(policy.layers)
    for name, k in ((names[0], 0), (names[5], 2), (names[-1], 1)):
        losses = []
        for shift in (-1e-2, 1e-2):
            probes = {other: torch.zeros(6, 1, RANK) for other in names}
            probes[name][:, 0, k] = shift
            policy.context.probes = probes
            with torch.no_grad():
                logp = policy.logp(batch, ABLATED)
            policy.context.probes = None
            losses.append(-logp.double().sum(1) / batch.completion_length)
        slope = (losses[1] - losses[0]) / 2e-2
        torch.testing.assert_close(found[:, names.index(name), k].double(), slope, rtol=2e-2, atol=2e-3)


def test_the_gradient_reading_leaves_accumulated_gradients_and_log_probabilities_alone():
    policy, batch = tiny_policy(moved=True), tiny_batch()
    for i, parameter in enumerate(policy.parameters()):
        parameter.grad = torch.full_like(parameter, float(i))
    found, logp = read_deployed(policy, batch, ["bottleneck", "gradient"])
    assert all((parameter.grad == i).all() for i, parameter in enumerate(policy.parameters()))
    plain, same = read_deployed(policy, batch, ["bottleneck"])
    assert torch.equal(found["bottleneck"], plain["bottleneck"]) and torch.equal(logp, same)
    assert not found["gradient"].requires_grad and not logp.requires_grad
