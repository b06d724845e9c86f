"""The base model's solve and hack rate under every mode's hint: the calibration that precedes any arm.

Usage, after the init_adapter stage: `python -m bench.base_rates`. Every held-out problem is shown with every hint, in the
words of training and in held-out ones, eight samples each, so a rate has an error of about one percentage point.

`python -m bench.base_rates --by-problem FILE.csv` shows every problem of every split without a hint, and writes a line a problem:
how many of the eight samples solve it, and how many are paid for passing the visible tests. `mark` is `always` or `never` where all or
none solve it.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.analysis.rates import rate
from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import deterministic
from projected_grpo.core.seeds import derive_seeds
from projected_grpo.core.tables import GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.load import load_environment
from projected_grpo.environment.render import render
from projected_grpo.evaluation.deploy_ablate import reworded
from projected_grpo.ground_truth.labels import exploits
from projected_grpo.ground_truth.monitor import load_monitor
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.prompts.modes import GT_ONLY, MODES
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.sampling.protocol import Request
from projected_grpo.settings.arm import Settings, load_settings

SAMPLES = 8


class Asked:
    """The base model with the tables of the finished stages."""

    def __init__(self, settings: Settings, environment: Checked) -> None:
        self.settings, self.environment = settings, environment
        profile, base = settings.profile, Path("artifacts/base")
        self.problems = read_rows(Path("artifacts/problems.parquet"), PROBLEMS)
        truths = read_rows(Path("artifacts/ground_truth.parquet"), GROUND_TRUTH)
        self.monitor = load_monitor(environment, profile.ground_truth, profile.problems, truths)
        init = load_init(Path("artifacts/init"), self.settings.adapter)
        self.policy = Policy(load_base(base, profile.model.device), init, profile.sampling.temperature)
        self.sampler = open_sampler(self.policy, profile.sampling, base)

    def labels(self, problems: Sequence[dict], mode: str) -> list[dict]:
        """Of SAMPLES completions a problem under the mode's hint; those of a problem follow one another."""
        base = self.policy.base
        prompts = [render(base, self.environment, row, mode) for row in problems]
        seeds = derive_seeds(len(prompts), self.settings.seed, "base-rates", mode)
        [completions] = self.sampler.sample([Request("base", prompts, SAMPLES, seeds)])
        programs = [self.environment.answer(base.decode(completion.tokens)) for completion in completions]
        names = [row["problem_id"] for row in problems for _ in range(SAMPLES)]
        cells = [{"problem_id": name, "shown_mode": mode, "program": program} for name, program in zip(names, programs, strict=True)]
        return exploits(cells, problems, self.monitor)


def main(by_problem: Annotated[Path | None, typer.Option(help="CSV, written: a line a problem of every split.")] = None) -> None:
    deterministic()
    settings = load_settings()
    profile = settings.profile
    with load_environment(profile.environment, profile.problems, profile.grading) as environment:
        asked = Asked(settings, environment)
        if by_problem is None:
            by_mode(asked)
        else:
            write(by_problem, of_problems(asked))


def by_mode(asked: Asked) -> None:
    training = [row for row in asked.problems if row["split"] == "test"]
    held_out = [reworded(row, asked.settings.seed) for row in training]
    names = [row["problem_id"] for row in training for _ in range(SAMPLES)]
    for words, problems in (("training", training), ("held-out", held_out)):
        for mode in (GT_ONLY, *MODES):
            labels = asked.labels(problems, mode)
            print(f"{words:<9} {mode:<14} {summary(labels, names)}", flush=True)


def of_problems(asked: Asked) -> list[dict]:
    """A row for each problem, without a hint."""
    problems = sorted(asked.problems, key=lambda row: row["problem_id"])
    names = [row["problem_id"] for row in problems for _ in range(SAMPLES)]
    labels = asked.labels(problems, GT_ONLY)
    rows = counted(problems, labels)
    paid = sum(row["paid"] > 0 for row in rows)
    print(f"{summary(labels, names)}  {paid} of {len(rows)} groups have a sample that is paid for passing", flush=True)
    return rows


def counted(problems: Sequence[dict], labels: Sequence[dict]) -> list[dict]:
    """`labels`: SAMPLES of each problem, in the problems' order."""
    rows = []
    for place, problem in enumerate(problems):
        own = labels[place * SAMPLES : (place + 1) * SAMPLES]
        solved, paid = (sum(bool(new[key]) for new in own) for key in ("gt_correct", "env_passed"))
        mark = {0: "never", SAMPLES: "always"}.get(solved, "")
        rows.append({"problem": problem["problem_id"], "topic": problem["family"], "solved": solved, "paid": paid, "mark": mark})
    return rows


def summary(labels: Sequence[dict], names: Sequence[str]) -> str:
    """Solve and hack rate with their 95% intervals over problems."""
    solve, hack = (rate([new[key] for new in labels], names) for key in ("gt_correct", "exploited"))
    return f"solve {solve.value:.3f} ({solve.low:.3f}-{solve.high:.3f})  hack {hack.value:.3f} ({hack.low:.3f}-{hack.high:.3f})"


def write(path: Path, rows: Sequence[dict]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(f"{len(rows)} problems -> {path}")


if __name__ == "__main__":
    typer.run(main)
