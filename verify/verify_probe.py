"""The probe of arms with monitor.kind=probe: what it separates, and its threshold."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from projected_grpo.gate.probe import ProbeError, fit, load_probe, threshold_at
from projected_grpo.grpo.monitors import ProbeMonitor
from verify.monitors import clusters, rollouts


def test_the_probe_separates_two_clusters_and_is_the_regression_that_it_was_fitted_as(tmp_path):
    hack, clean = clusters(40, 0, apart=4.0)
    probe, recall = fit(hack, clean, 0.05)
    probe.save(tmp_path)
    probe = load_probe(tmp_path, 6)
    assert recall == 1.0
    new_hack, new_clean = clusters(200, 1, apart=4.0)
    assert (probe.suspicion(new_hack) >= probe.threshold).float().mean() > 0.98
    assert (probe.suspicion(new_clean) < probe.threshold).float().mean() > 0.9
    features = torch.cat([hack, clean]).double().numpy()
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(max_iter=10_000).fit(scaler.transform(features), [1] * 40 + [0] * 40)
    expected = model.predict_proba(scaler.transform(new_hack.double().numpy()))[:, 1]
    np.testing.assert_allclose(probe.suspicion(new_hack).numpy(), expected, atol=1e-5)
    seen = ProbeMonitor(probe)(rollouts([0.0] * 200), new_clean)
    assert torch.equal(seen.flagged, seen.suspicion >= probe.threshold) and seen.correct is None


def test_the_threshold_flags_the_stated_share_of_held_out_clean_sides():
    clean = np.linspace(0.0, 0.95, 20, dtype=np.float32)
    for rate, allowed in ((0.0, 0), (0.04, 0), (0.05, 1), (0.10, 2), (0.12, 2), (0.95, 19), (1.0, 20)):
        assert (np.random.default_rng(0).permutation(clean) >= threshold_at(clean, rate)).sum() == allowed
    assert (np.full(20, 0.5, np.float32) >= threshold_at(np.full(20, 0.5, np.float32), 0.05)).sum() == 0  # at most
    hack, clean_sides = clusters(2000, 2, apart=1.0)  # clusters that overlap: held-out folds decide
    for rate in (0.05, 0.2):
        probe, _ = fit(hack, clean_sides, rate)
        fresh = clusters(4000, 3, apart=1.0)[1]
        assert (probe.suspicion(fresh) >= probe.threshold).float().mean() == pytest.approx(rate, abs=0.03)


def test_more_features_than_pairs_do_not_fool_the_threshold():
    """Sides that differ by nothing: the fit separates its own pairs, and the folds see that it cannot."""
    rng = torch.Generator().manual_seed(0)
    hack, clean = torch.randn(30, 200, generator=rng), torch.randn(30, 200, generator=rng)
    probe, recall = fit(hack, clean, 0.05)
    assert (probe.suspicion(hack) > 0.5).all() and recall < 0.25
    assert (probe.suspicion(torch.randn(2000, 200, generator=rng)) >= probe.threshold).float().mean() < 0.15


def test_a_probe_of_another_shape_or_none_is_refused_by_its_file(tmp_path):
    with pytest.raises(ProbeError, match="probe.safetensors: cannot be read"):
        load_probe(tmp_path, 6)
    hack, clean = clusters(5, 0, apart=1.0)
    fit(hack, clean, 0.05)[0].save(tmp_path)
    with pytest.raises(ProbeError, match="has 6 weights, expected 8"):
        load_probe(tmp_path, 8)
    with pytest.raises(ProbeError, match="found 1 pairs.*pairs.selector"):
        fit(hack[:1], clean[:1], 0.05)
