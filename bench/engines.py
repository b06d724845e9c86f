"""Tokens a second of the sampling engines on the base model of the working folder, both adapter states in one call.

Usage, after the init_adapter stage: `python -m bench.engines merged adapted`, or `.venv-vllm/bin/python -m bench.engines vllm`
where `make test-vllm` has made that environment. Eight training prompts are completed eight times each, two of them deployed.
The first call, in which vLLM compiles, is printed by itself; the rate is the median of the others.
"""

import statistics
import sys
import time
from pathlib import Path

from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import deterministic
from projected_grpo.core.seeds import derive_seeds
from projected_grpo.core.tables import PROBLEMS
from projected_grpo.environment.load import load_environment
from projected_grpo.environment.render import render
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.sampling.protocol import Request
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.profile import LocalSampling, VllmSampling

PROMPTS, COPIES, CALLS = 8, {"full": 6, "deployed": 2}, 6
ENGINES = {
    "merged": (LocalSampling, {"rows": 1024}),
    "adapted": (LocalSampling, {"rows": 1024}),
    "vllm": (VllmSampling, {"tensor_parallel": 1, "memory_share": 0.2}),
}


def main(engines: list[str]) -> None:
    deterministic()
    settings = load_settings()
    profile = settings.profile
    environment = load_environment(profile.environment, profile.problems, profile.grading)
    limits = profile.sampling.model_dump(include={"max_prompt_tokens", "max_new_tokens", "temperature"})
    base = Path("artifacts/base")
    policy = Policy(load_base(base, profile.model.device), load_init(Path("artifacts/init"), settings.adapter), limits["temperature"])
    tasks = [row for row in read_rows(Path("artifacts/problems.parquet"), PROBLEMS) if row["split"] == "train"][:PROMPTS]
    prompts = [render(policy.base, environment, task, task["mode"]) for task in tasks]
    for name in engines:
        section, own = ENGINES[name]
        began = time.perf_counter()
        sampler = open_sampler(policy, section(engine=name, **limits, **own), base)
        loaded, seconds, rates = time.perf_counter() - began, [], []
        for call in range(CALLS):
            requests = [Request(state, prompts, copies, derive_seeds(PROMPTS, call, state)) for state, copies in COPIES.items()]
            began = time.perf_counter()
            found = sampler.sample(requests)
            seconds.append(time.perf_counter() - began)
            rates.append(sum(len(c.tokens) for completions in found for c in completions) / seconds[-1])
        print(
            f"{name}: loaded in {loaded:.1f} s, first call {seconds[0]:.1f} s, then {statistics.median(seconds[1:]):.2f} s a call and "
            f"{statistics.median(rates[1:]):.0f} tokens/s ({min(rates[1:]):.0f} to {max(rates[1:]):.0f})",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
