"""Phases of a step at the shape of Qwen3-4B on one GPU: seconds, tokens, and shares of what the GPU's data sheet allows.

Usage: `bench/gpu.sh`. The profile is qwen3_4b_shape at r = 16 with 256 rollouts (32 prompts x 8), all decoded at once. Its random
weights are made on the device and no artifact is read. Random tokens all earn the same, and a group whose rewards agree trains
nothing, so a monitor flags every second rollout and the penalty lowers its reward.

Operations and bytes are those of bench.cost, with the step's own lengths and keep share. Gate and update are compared with the
GPU's operations a second, and sampling with its bandwidth: it must read the weights once a token, and keys and values as far as the
cache is filled. A cache of fixed length is read whole, so it cannot reach 100%.

`kernels` shows which kernels take the time: of sampling 128 tokens after prompts so long that the cache has its full length, and of a
whole step with completions of 128 tokens. On a CPU everything is tiny, and shows only that this code runs.
"""

import statistics
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM

from bench.cost import Scale, passes
from bench.step import PENALTY, every_second, trainer
from projected_grpo.base_models.shape import chat_tokenizer, config_of
from projected_grpo.core.base import Base
from projected_grpo.core.errors import InputError
from projected_grpo.core.runtime import deterministic, run_stage
from projected_grpo.core.seeds import derive_seeds
from projected_grpo.environment.load import load_environment
from projected_grpo.environment.render import render
from projected_grpo.grpo.loop import PHASES, Trainer
from projected_grpo.grpo.schedule import draw_problems
from projected_grpo.policy.inits import initialize
from projected_grpo.policy.policy import Policy
from projected_grpo.problems import authored
from projected_grpo.prompts.modes import MODES
from projected_grpo.sampling.protocol import Request
from projected_grpo.settings.arm import Settings, load_settings
from projected_grpo.settings.files import check, read_yaml
from projected_grpo.settings.profile import Profile
from projected_grpo.settings.section import Device

PROFILE = Path("profiles/qwen3_4b_shape.yaml")
PEAKS = {"NVIDIA H200": (989.0, 4.8), "NVIDIA H100 80GB HBM3": (989.0, 3.35)}  # TFLOP/s in bfloat16, TB/s
SIZES = {  # changes of the profile, by device
    "cuda": {"train": {"prompts": 32, "group": 8}},
    "cpu": {
        "model": {"device": "cpu", "dtype": "float32", "vocab": 1024, "width": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "mlp": 128},
        "sampling": {"max_new_tokens": 48},
        "train": {"prompts": 4, "group": 4, "micro_tokens": 4096},
    },
}  # fmt: skip
STEPS, SHORT, SHOWN = 3, 128, 25  # steps, tokens where kernels are shown, kernels


def main(
    part: Annotated[Literal["steps", "kernels"], typer.Argument(help="What is measured.")],
    out: Annotated[Path, typer.Option(help="Text file of the result, written anew after each step.")],
    device: Annotated[Device, typer.Option(help="Where the model computes.")] = "cuda",
    rows: Annotated[int, typer.Option(help="Completions decoded at once.")] = 256,
    tflops: Annotated[float | None, typer.Option(help="Of the GPU's data sheet, in bfloat16.")] = None,
    terabytes: Annotated[float | None, typer.Option(help="A second, of the GPU's data sheet.")] = None,
) -> None:
    deterministic()
    peak = data_sheet(torch.cuda.get_device_name() if device == "cuda" else "cpu", tflops, terabytes)
    settings = settings_at(device, rows)
    full = settings.profile.sampling.max_new_tokens
    if part == "kernels":
        settings = changed(settings, {"sampling": {"max_new_tokens": min(SHORT, full // 2)}})
    problems = [row for row in authored.make_problems(settings.profile.problems, MODES)[0] if row["split"] == "train"]
    profile = settings.profile
    with load_environment(profile.environment, profile.problems, profile.grading) as environment:
        arm = trainer(settings, random_policy(settings, problems), problems, environment)
        arm.monitor = every_second
        if part == "kernels":
            kernels(arm, full - settings.profile.sampling.max_new_tokens, out)
        else:
            steps(arm, peak, out)


def data_sheet(name: str, tflops: float | None, terabytes: float | None) -> tuple[float, float]:
    """Peak operations and bytes a second of the device `name`. Raises InputError where it is not known."""
    known = PEAKS.get(name, (None, None))
    peak = tuple(given or of_name for given, of_name in zip((tflops, terabytes), known))
    if None in peak:
        raise InputError(f"device '{name}': found no peak in PEAKS ({', '.join(PEAKS)}); give --tflops and --terabytes of its data sheet")
    return peak[0] * 1e12, peak[1] * 1e12


def settings_at(device: str, rows: int) -> Settings:
    arm = load_settings()
    arm = arm.model_copy(
        update={
            "profile": check(Profile, read_yaml(PROFILE), PROFILE),
            "adapter": arm.adapter.model_copy(update={"rank": 16}),
            "gate": arm.gate.model_copy(update={"policy": "route", "direction": "haar"}),
            "monitor": arm.monitor.model_copy(update=PENALTY),
        }
    )
    return changed(changed(arm, SIZES[device]), {"sampling": {"rows": rows}})


def changed(settings: Settings, changes: dict[str, dict]) -> Settings:
    """With these changes of sections of its profile."""
    sections = {name: getattr(settings.profile, name).model_copy(update=keys) for name, keys in changes.items()}
    return settings.model_copy(update={"profile": settings.profile.model_copy(update=sections)})


def random_policy(settings: Settings, problems: list[dict]) -> Policy:
    shape = settings.profile.model
    tokenizer = chat_tokenizer([row["statement"] for row in problems], shape.vocab)
    torch.manual_seed(shape.seed)
    with torch.device(shape.device):
        model = AutoModelForCausalLM.from_config(config_of(shape, tokenizer), dtype=getattr(torch, shape.dtype))
    base = Base(model.eval().requires_grad_(False), tokenizer)
    policy = Policy(base, initialize(model, settings.adapter, {}), settings.profile.sampling.temperature)
    policy.recompute_layers()
    return policy


def steps(arm: Trainer, peak: tuple[float, float], out: Path) -> None:
    scales = []
    for step in range(STEPS):
        rows = arm.step(step)
        scales.append(scale_of(arm, rows["rollouts"], rows["steps"][0]["keep_share"]))
        held = torch.cuda.max_memory_allocated() / 1e9
        text = f"step {step + 1} of {STEPS}; at most {held:.1f} GB allocated\n\n{table(arm, scales, peak)}\n"
        out.write_text(text)
        print(text, flush=True)


def scale_of(arm: Trainer, rollouts: list[dict], keep_share: float) -> Scale:
    train, sampling, model = arm.settings.profile.train, arm.settings.profile.sampling, arm.policy.base.model
    prompt, completion = (round(statistics.mean(len(row[f"{part}_tokens"]) for row in rollouts)) for part in ("prompt", "completion"))
    return Scale(
        model.config, model.dtype.itemsize, arm.settings.adapter.rank, train.prompts, train.group, train.gen_deploy_frac, keep_share, prompt,
        completion, train.micro_tokens, train.recompute_layers, sampling.engine == "merged", sampling.rows,
    )  # fmt: skip


def table(arm: Trainer, scales: list[Scale], peak: tuple[float, float]) -> str:
    """Markdown. Rates and shares are of the median step."""
    lines = ["| phase | seconds of each step | tokens | tokens/s | counted | rate | of the data sheet |", "|---|---|---|---|---|---|---|"]
    for phase in PHASES:
        median = statistics.median(arm.seconds[phase])
        shown = f"| {phase} | {', '.join(f'{time:.2f}' for time in arm.seconds[phase])} |"
        if phase in ("sample", "gate", "update"):
            sampling = phase == "sample"
            tokens = statistics.mean(scale.rollouts * (scale.completion + (0 if sampling else scale.prompt)) for scale in scales)
            counts = [(flop, read) for scale in scales for _, name, flop, read in passes(scale) if name == phase]
            count = sum(read if sampling else flop for flop, read in counts) / len(scales)
            unit, rate = "TB" if sampling else "TFLOP", count / median
            shown += f" {tokens:,.0f} | {tokens / median:,.0f} | {count / 1e12:.3g} {unit} | {rate / 1e12:.3g} {unit}/s | {rate / peak[sampling]:.1%} |"
        lines.append(shown)
    return "\n".join([*lines, f"| whole step | {', '.join(f'{sum(times):.2f}' for times in zip(*arm.seconds.values()))} |"])


def kernels(arm: Trainer, more: int, out: Path) -> None:
    """The tables of torch's profiler, each of a second call. Prompts are `more` tokens longer where sampling is shown by itself."""
    train, base = arm.settings.profile.train, arm.policy.base
    drawn = draw_problems(arm.problems, 0, train.prompts, arm.settings.seed)
    prompts = [more * [base.eos_id] + render(base, arm.environment, row, row["mode"]) for row in drawn]
    copies = {"full": train.group - arm.deployed_copies, "deployed": arm.deployed_copies}
    requests = [Request(state, prompts, count, derive_seeds(train.prompts, 0, state)) for state, count in copies.items()]
    device, found = base.device.type, []
    for name, call in {"sampling": lambda: arm.sampler.sample(requests), "whole step": lambda: arm.step(1)}.items():
        call()
        with profile(activities=[ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU]) as taken:
            call()
        order = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
        found.append(f"{name}\n{taken.key_averages().table(sort_by=order, row_limit=SHOWN, max_name_column_width=100)}")
        out.write_text("\n".join(found))
    print(out.read_text(), flush=True)


if __name__ == "__main__":
    run_stage(main)
