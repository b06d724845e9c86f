"""A warm start loads what was trained, and nothing stands in for a missing adapter."""

import pytest
import torch

from projected_grpo.core.base import Base
from projected_grpo.policy.load import warm_start
from projected_grpo.policy.origin import AdapterError
from projected_grpo.policy.policy import ADAPTER_FILE, Policy
from verify.curriculum import trainer
from verify.tiny import tiny_init, tiny_model, tiny_policy, tiny_tokenizer


def test_a_warm_start_loads_the_adapter_and_decay_pulls_to_the_initialization(tmp_path):
    earlier = tiny_policy(moved=True)
    earlier.save(tmp_path / "start", uses_ground_truth=False)
    policy = tiny_policy(moved=False)
    warm_start(policy, tmp_path / "start", uses_ground_truth=False)
    assert all(torch.equal(tensor, earlier.state()[name]) for name, tensor in policy.state().items())
    run = trainer(policy, {})
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.optimizer.step()
    train = run.settings.profile.train
    for parameter, old in zip(policy.parameters(), before):
        torch.testing.assert_close(parameter.detach(), old * (1 - train.learning_rate * train.decay))


def test_a_folder_without_an_adapter_that_fits_is_refused(tmp_path):
    policy = tiny_policy(moved=False)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/run.json").write_text("{}")
    with pytest.raises(AdapterError, match=f"{ADAPTER_FILE}: missing"):
        warm_start(policy, tmp_path / "train", uses_ground_truth=False)
    tiny_policy(moved=True).save(tmp_path / "start", uses_ground_truth=False)
    model = tiny_model()
    other = Policy(Base(model, tiny_tokenizer()), tiny_init(model, seed=7), 1.0)
    with pytest.raises(AdapterError, match="found adapter.seed 0, expected 7"):
        warm_start(other, tmp_path / "start", uses_ground_truth=False)


def test_an_adapter_trained_with_ground_truth_starts_only_an_arm_that_uses_it(tmp_path):
    tiny_policy(moved=True).save(tmp_path / "labelled", uses_ground_truth=True)
    with pytest.raises(AdapterError, match="labelled: holds an adapter that was trained with labels of the ground-truth monitor"):
        warm_start(tiny_policy(moved=False), tmp_path / "labelled", uses_ground_truth=False)
    policy = tiny_policy(moved=False)
    warm_start(policy, tmp_path / "labelled", uses_ground_truth=True)
    assert policy.origin.uses_ground_truth and any(parameter.any() for parameter in policy.parameters())
