"""The spectral parametrization: gains and rotation against their definition, gradients against finite differences."""

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from projected_grpo.policy.adapter import BOTH, DEPLOYED_ALONE, AdapterContext, adapter_state
from projected_grpo.policy.antipasto import Antipasto, cayley
from projected_grpo.policy.inits import antipasto
from verify.tiny import RANK


def moved_antipasto() -> tuple[Antipasto, AdapterContext]:
    torch.manual_seed(3)
    base, context = nn.Linear(7, 8, bias=False).double().requires_grad_(False), AdapterContext()
    layer = Antipasto("layer", base, context, **antipasto(base.weight, RANK)).double()
    with torch.no_grad():
        layer.g.normal_()
        layer.X.normal_()
    return layer, context


def test_a_rotation_is_made_on_the_device_of_its_parameters():
    with FakeTensorMode():
        assert cayley(torch.empty(3, 3, device="cuda")).device.type == "cuda"


def test_antipasto_scales_singular_directions_and_rotates_what_the_quarantine_reads():
    layer, context = moved_antipasto()
    W, U, S, Vh, g, X = (t.detach().numpy() for t in (layer.base.weight, layer.U, layer.S, layer.Vh, layer.g, layer.X))
    K, gain = X - X.T, S * np.tanh(g)
    rotation = (np.eye(RANK) - K) @ np.linalg.inv(np.eye(RANK) + K)
    deployed = U[:, :RANK] @ np.diag(gain[:RANK]) @ Vh[:RANK]
    quarantine = U[:, RANK:] @ np.diag(gain[RANK:]) @ rotation @ Vh[RANK:]
    np.testing.assert_allclose(layer.merged(BOTH).detach().numpy(), W + deployed + quarantine, atol=1e-12)
    np.testing.assert_allclose(layer.merged(DEPLOYED_ALONE).detach().numpy(), W + deployed, atol=1e-12)
    x = torch.randn(2, 4, 7, dtype=torch.double)
    with torch.no_grad(), adapter_state(context, pool=lambda values: values.mean(1), pooled={}):
        y = layer(x)
        np.testing.assert_allclose(context.pooled["layer"].numpy(), x.mean(1).numpy() @ Vh[:RANK].T, atol=1e-12)
    np.testing.assert_allclose(y.numpy(), x.numpy() @ (W + deployed + quarantine).T, atol=1e-12)


def test_the_cayley_rotation_is_the_identity_at_zero_and_orthogonal_elsewhere():
    assert torch.equal(cayley(torch.zeros(4, 4)), torch.eye(4))
    X = 3 * torch.randn(4, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    rotation = cayley(X - X.T)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(4, dtype=torch.double))
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0) and (rotation - torch.eye(4)).abs().max() > 0.1


def test_the_gradients_of_gains_and_rotation_are_finite_differences():
    layer, _ = moved_antipasto()
    x = torch.randn(1, 2, 7, dtype=torch.double)
    for parameter in layer.trained().values():
        (layer(x) * layer.base(x)).sum().backward()
        expected, index = parameter.grad.clone(), [(i,) if parameter.dim() == 1 else (i, (i + 1) % RANK) for i in range(RANK)]
        layer.zero_grad()
        for place in index:
            ends = []
            with torch.no_grad():
                for shift in (1e-6, -2e-6):
                    parameter[place] += shift
                    ends.append(float((layer(x) * layer.base(x)).sum()))
                parameter[place] += 1e-6
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(expected[place]), rel=1e-5, abs=1e-8)
