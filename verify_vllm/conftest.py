"""One engine for all gates, because it takes a minute to load. `make test-vllm` runs this folder in an environment of its own."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.protocol import Sampler
from verify_vllm.served import local_engine, moved_policy, vllm_engine, write_base

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the stages that the gates start


@dataclass
class Served:
    base: Path
    policy: Policy
    local: Sampler
    vllm: Sampler


@pytest.fixture(scope="session")
def engines(tmp_path_factory) -> Served:
    base = tmp_path_factory.mktemp("base")
    write_base(base)
    policy = moved_policy(base)
    return Served(base, policy, local_engine(policy, base), vllm_engine(policy, base, tensor_parallel=1))


@pytest.fixture
def served(engines: Served):
    """The engines with the policy as it was made, whatever an earlier gate did to it."""
    before = copy.deepcopy(engines.policy.state())
    yield engines
    engines.policy.load_state(before, "the gate")
