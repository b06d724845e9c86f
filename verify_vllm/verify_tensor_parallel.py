"""An engine whose weights are split over two processes samples what the undivided one does."""

import vllm

from verify_vllm.served import moved_policy, vllm_engine
from verify_vllm.verify_engine import BROAD, GREEDY, STATES, TOLERANCE, ask, check_greedy, gap


def test_two_ranks_sample_the_same_policy(served, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")  # the cores of the two ranks, which vLLM cannot tell by itself
    vllm.envs.disable_envs_cache()  # it keeps its variables as they were for the first engine of the process
    policy = moved_policy(served.base)
    split = vllm_engine(policy, served.base, tensor_parallel=2)
    policy.temperature = served.policy.temperature = GREEDY
    check_greedy(policy, ask(split, 1), ask(served.local, 1))
    policy.temperature = BROAD
    found = ask(split, 4)
    for state in STATES:
        assert gap(policy, found[state], state) < TOLERANCE
