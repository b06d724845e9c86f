"""Run a set of arms from bench/arms.yaml, three seeds each, as DVC experiments, and print the 2x2 of those that are finished.

Each run lives in a temporary copy of the workspace and shares its cache, so the base model and the directions, which must
be there already (`make repro`), are made once. Two runs go on at once with one thread each, which gives more runs an
hour on two cores than one run with two threads. Called again after a kill, this skips the experiments of the current
commit that are finished, and a run that was killed resumes from its last checkpoint.
A run ends with its report: offline gate test and export are left out, but not where an arm saves several readings to compare.
Usage: `python -m bench.arms SET...`; with --table nothing is run. `make arms` runs the set four.
"""

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dvc.api
import polars as pl
from ruamel.yaml import YAML

from projected_grpo.analysis.rates import Rate, find, two_by_two
from projected_grpo.reporting.compare import load_run
from projected_grpo.settings.arm import DRAWN

SEEDS = (41, 42, 43)
JOBS = 2
DVC = [sys.executable, "-m", "dvc", "--wait-for-lock"]
METHOD = ["gate.policy=route", "gate.direction=v_act"]  # of an arm that does not say otherwise


def cells(sets: list[str]) -> dict[str, list[str]]:
    """Experiment name -> its whole setting of arm, draw and seed."""
    arms = YAML(typ="safe").load(Path("bench/arms.yaml").read_text())
    if not sets or not set(sets) <= set(arms):
        sys.exit(f"found the sets {', '.join(sets) or 'none'}, expected some of {', '.join(arms)}")
    named = {}
    for place, seed in enumerate(SEEDS):
        for arm, settings in (item for name in sets for item in arms[name].items()):
            drawn = any(f"gate.direction={direction}" in settings for direction in DRAWN)
            whole = [*METHOD, *settings, f"gate.draw={place if drawn else 0}", f"seed={seed}"]
            values = dict(item.split("=", 1) for item in whole)  # the arm's own in place of the method's
            named[f"{arm}-s{seed}"] = [f"{key}={value}" for key, value in values.items()]
    return named


def finished() -> list[str]:
    """Names of the experiments of the current commit."""
    return subprocess.run([*DVC, "exp", "list", "--name-only"], check=True, text=True, capture_output=True).stdout.split()


def run(name: str, settings: list[str]) -> bool:
    began = time.monotonic()
    if name in finished():  # looked up late: a run also takes up what earlier, failed runs left in DVC's queue
        return True
    overrides = [part for item in settings for part in ("-S", item)]
    several = any(item.startswith("gate.features=") and "," in item for item in settings)
    done = subprocess.run(
        [*DVC, "exp", "run", "--temp", "-n", name, *overrides, *([] if several else ["report"])],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(f"{name}: {'finished' if done.returncode == 0 else 'failed'} after {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-3000:], flush=True)
    return done.returncode == 0


def row(name: str) -> str:
    """The run's 2x2 as a row of a Markdown table: as trained / deployed, 95% intervals of the deployed hack rates."""
    table = two_by_two(pl.read_parquet(io.BytesIO(dvc.api.read("artifacts/eval.parquet", rev=name, mode="rb"))).to_dicts())
    done = load_run(name)
    arm, _, seed = name.rpartition("-s")
    found = [f"{arm} (uses ground truth)" if done.manifest.arm.uses_ground_truth else arm, seed, f"{done.metrics['qmass']:.2f}"]
    for data in ("heldout", "train_iid"):
        trained, deployed = (find(table, data, state) for state in ("as_trained", "deployed"))
        found += [f"{trained.hack.value:.2f} / {_rate(deployed.hack)}", f"{trained.solve.value:.2f} / {deployed.solve.value:.2f}"]
    auroc, diverged = done.metrics["auroc_live"], done.manifest.diverged_at_step
    found.append(("-" if auroc is None else f"{auroc:.2f}") + ("" if diverged is None else f", diverged at {diverged}"))
    return f"| {' | '.join(found)} |"


def _rate(rate: Rate) -> str:
    return f"{rate.value:.2f} ({rate.low:.2f}-{rate.high:.2f})"


def main(arguments: list[str]) -> None:
    chosen = cells([name for name in arguments if name != "--table"])
    if "--table" not in arguments:
        with ThreadPoolExecutor(JOBS) as pool:
            succeeded = list(pool.map(run, chosen.keys(), chosen.values()))
        print(f"python -m stages.compare {' '.join(chosen)} --out reports/comparison")
        if not all(succeeded):
            sys.exit("some runs failed; the same command runs them again")
    print("| arm | seed | qmass | held-out hack | held-out solve | train-IID hack | train-IID solve | AUROC live |\n" + "|---" * 8 + "|")
    for name in sorted(set(chosen) & set(finished())):
        print(row(name))


if __name__ == "__main__":
    main(sys.argv[1:])
