"""Seconds of one GRPO step against one of TRL's GRPOTrainer, on the same base model and the same prompts.

Usage, after `make repro`, with the extra peer and on an otherwise idle machine: `python -m bench.peer`. A step has 64 rollouts
(8 prompts x 8) of at most 56 tokens. Ours samples, grades, gates by activations and updates. TRL's has no gate and no grader: it
pays each copy of a group another amount, so that all rollouts have a gradient, and trains a LoRA of the same rank on the same layers.
Ours skips the update of groups whose rewards agree, so there is a second arm in which a monitor makes them differ. The learning
rate is 0, so all sample from the base policy and their completions are equally long.

Our steps follow each of TRL's in one process, because a machine's speed drifts; the first of each is left out. TRL's is timed
from the callback on_step_begin to on_step_end: generation, rewards, reference log-probabilities, loss and optimizer. The
deterministic kernels that our steps ask for are off in TRL's; the allocator keeps freed memory in all (runtime.py).
"""

import statistics
import sys
import time
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from bench.step import BASE, GROUP, PENALTY, PROMPTS, STEPS, arm_settings, every_second, spread, toy_policy, trainer, training_problems
from projected_grpo.core.base import Base, load_base
from projected_grpo.core.runtime import deterministic
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.load import load_environment
from projected_grpo.grpo.loop import Trainer
from projected_grpo.grpo.schedule import draw_problems, shown_mode
from projected_grpo.policy.adapter import TARGETS
from projected_grpo.settings.arm import Settings

if TYPE_CHECKING:
    from trl import GRPOTrainer


class Turns(TrainerCallback):
    """Times each step of TRL, and has one of each of our trainers follow it."""

    def __init__(self, ours: dict[str, Trainer]) -> None:
        self.ours = ours
        self.rows: dict[str, list[dict]] = {name: [] for name in ours}
        self.seconds: dict[str, list[float]] = {name: [] for name in ("TRL", *ours)}

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.seconds["TRL"].append(time.perf_counter() - self.began)
        torch.use_deterministic_algorithms(True)
        for name, arm in self.ours.items():
            began = time.perf_counter()
            self.rows[name] += arm.step(state.global_step - 1)["steps"]
            self.seconds[name].append(time.perf_counter() - began)
        torch.use_deterministic_algorithms(False)


def main() -> None:
    if find_spec("trl") is None:
        sys.exit("trl: is not installed; `uv pip install -r requirements.lock -r pyproject.toml --extra peer` installs it")
    deterministic()
    settings, problems, lengths = arm_settings("activation"), training_problems(), []
    every = settings.model_copy(update={"monitor": settings.monitor.model_copy(update=PENALTY)})
    profile = settings.profile
    with load_environment(profile.environment, profile.problems, profile.grading) as environment, TemporaryDirectory() as folder:
        arms = {"ours": settings, "ours, all groups updated": every}
        turns = Turns({name: trainer(arm, toy_policy(arm), problems, environment) for name, arm in arms.items()})
        turns.ours["ours, all groups updated"].monitor = every_second
        theirs = peer(settings, environment, problems, lengths, folder)
        theirs.add_callback(turns)
        theirs.train()
    report(turns, lengths)


def peer(settings: Settings, environment: Checked, problems: list[dict], lengths: list[float], folder: str) -> "GRPOTrainer":
    """TRL's trainer. It appends the mean length of each step's completions to `lengths`."""
    from trl import GRPOConfig, GRPOTrainer

    train, sampling, base = settings.profile.train, settings.profile.sampling, load_base(BASE, "cpu")

    def pay(completion_ids: list[list[int]], **kwargs) -> list[float]:
        lengths.append(statistics.mean(map(len, completion_ids)))
        return [float(copy % GROUP) for copy in range(len(completion_ids))]

    config = GRPOConfig(
        folder, max_steps=STEPS, num_generations=GROUP, per_device_train_batch_size=PROMPTS * GROUP, gradient_accumulation_steps=1,
        temperature=sampling.temperature, top_p=1.0, top_k=0, max_completion_length=sampling.max_new_tokens, learning_rate=0.0,
        beta=train.kl_beta, epsilon=train.clip, max_grad_norm=train.grad_clip, weight_decay=train.decay, loss_type="dr_grpo",
        use_cpu=True, bf16=False, gradient_checkpointing=False, shuffle_dataset=False, dataloader_num_workers=0,
        dataloader_pin_memory=False, logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    lora = LoraConfig(r=2 * settings.adapter.rank, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    shown = Dataset.from_dict({"prompt": prompts(base, environment, settings, problems)})
    made = GRPOTrainer(base.model, pay, config, shown, processing_class=base.tokenizer, peft_config=lora)
    made.remove_callback(PrinterCallback)
    return made


def prompts(base: Base, environment: Checked, settings: Settings, problems: list[dict]) -> list[str]:
    """Those of our steps, in their order."""
    drawn = [(problem, step) for step in range(STEPS) for problem in draw_problems(problems, step, PROMPTS, settings.seed)]
    modes = [shown_mode(problem, step, settings.profile.train.unhackable_share, settings.seed) for problem, step in drawn]
    return [base.tokenizer.bos_token + environment.prompt(problem, mode) for (problem, _), mode in zip(drawn, modes)]


def report(turns: Turns, lengths: list[float]) -> None:
    seconds = {name: times[1:] for name, times in turns.seconds.items()}
    print(f"{PROMPTS * GROUP} rollouts, {STEPS - 1} steps of each in turns, {torch.get_num_threads()} threads")
    print(f"TRL: {statistics.mean(lengths):.1f} tokens a completion\n{spread('whole step', seconds['TRL'])}")
    for name, arm in turns.ours.items():
        phases = {phase: times[1:] for phase, times in arm.seconds.items()}
        bare = [whole - grade - gate for whole, grade, gate in zip(seconds[name], phases["grade"], phases["gate"], strict=True)]
        tokens, updated = (statistics.mean(row[key] for row in turns.rows[name]) for key in ("completion_length", "gated"))
        print(f"{name}: {tokens:.1f} tokens a completion, {updated:.1f} rollouts updated")
        print("\n".join(spread(phase, times) for phase, times in (phases | {"whole step": seconds[name]}).items()))
        print(f"  TRL / ours {ratio(seconds['TRL'], seconds[name])}; without gate and grading {ratio(seconds['TRL'], bare)}")


def ratio(theirs: list[float], ours: list[float]) -> str:
    """Of the steps of each turn."""
    ratios = [their / own for their, own in zip(theirs, ours, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
