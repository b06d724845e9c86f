"""The base model's solve and hack rate under every mode's hint: the calibration that precedes any arm.

Usage, after the init_adapter stage: `python -m bench.base_rates`. Every held-out problem is shown with every hint, in the
words of training and in held-out ones, eight samples each, so a rate has an error of about one percentage point.
"""

from pathlib import Path

from projected_grpo.analysis.rates import rate
from projected_grpo.core.base import load_base
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import deterministic
from projected_grpo.core.seeds import derive_seeds
from projected_grpo.core.tables import GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.load import load_environment
from projected_grpo.environment.render import render
from projected_grpo.evaluation.deploy_ablate import reworded
from projected_grpo.ground_truth.judges import load_judges
from projected_grpo.ground_truth.labels import exploits
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.prompts.modes import GT_ONLY, MODES
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.sampling.protocol import Request
from projected_grpo.settings.arm import load_settings

SAMPLES = 8


def main() -> None:
    deterministic()
    settings = load_settings()
    scale = settings.scale
    training = [row for row in read_rows(Path("artifacts/problems.parquet"), PROBLEMS) if row["split"] == "test"]
    held_out = [reworded(row, settings.seed) for row in training]
    truths = read_rows(Path("artifacts/ground_truth.parquet"), GROUND_TRUTH)
    init = load_init(Path("artifacts/init"), settings.adapter)
    base = Path("artifacts/base")
    policy = Policy(load_base(base, scale.model.device), init, scale.sampling.temperature)
    sampler = open_sampler(policy, scale.sampling, base)
    names = [row["problem_id"] for row in training for _ in range(SAMPLES)]
    with load_environment(scale.environment, scale.problems, scale.grading) as environment:
        judges = load_judges(environment, scale.ground_truth, scale.problems, truths)
        for words, problems in (("training", training), ("held-out", held_out)):
            for mode in (GT_ONLY, *MODES):
                prompts = [render(policy.base, environment, row, mode) for row in problems]
                seeds = derive_seeds(len(prompts), settings.seed, "base-rates", mode)
                [completions] = sampler.sample([Request("base", prompts, SAMPLES, seeds)])
                programs = [environment.answer(policy.base.decode(completion.tokens)) for completion in completions]
                asked = [{"problem_id": n, "shown_mode": mode, "program": p} for n, p in zip(names, programs)]
                labels = exploits(asked, problems, judges)
                hack = rate([new["exploited"] for new in labels], names)
                solve = rate([new["gt_correct"] for new in labels], names)
                print(f"{words:<9} {mode:<14} solve {solve.value:.3f} ({solve.low:.3f}-{solve.high:.3f})  "
                      f"hack {hack.value:.3f} ({hack.low:.3f}-{hack.high:.3f})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
