"""Run the arms none, absorb, route by v_act and route by a Haar draw, three seeds each, as DVC experiments.

Each run lives in a temporary copy of the workspace and shares its cache, so the base model and the directions, which must
be there already (`make repro`), are made once. Two runs go on at once with one thread each, which gives more runs an
hour on two cores than one run with two threads. Called again after a kill, this skips the experiments of the current
commit that are finished, and a run that was killed resumes from its last checkpoint.
Usage: `make arms`, then the printed `python -m stages.compare ... --out FOLDER`.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ARMS = {  # name -> settings of the arm; the Haar draw differs from seed to seed
    "none": ["gate.policy=none"],
    "absorb": ["gate.policy=absorb"],
    "v_act": ["gate.policy=route", "gate.direction=v_act"],
    "haar": ["gate.policy=route", "gate.direction=haar"],
}
SEEDS = (41, 42, 43)
JOBS = 2
DVC = [sys.executable, "-m", "dvc"]


def cells() -> dict[str, list[str]]:
    """Experiment name -> its whole setting of arm and seed."""
    named = {}
    for place, seed in enumerate(SEEDS):
        for arm, settings in ARMS.items():
            named[f"{arm}-s{seed}"] = [*settings, f"gate.draw={place if arm == 'haar' else 0}", f"seed={seed}"]
    return named


def finished() -> list[str]:
    """Names of the experiments of the current commit."""
    return subprocess.run([*DVC, "exp", "list", "--name-only"], check=True, text=True, capture_output=True).stdout.split()


def run(name: str, settings: list[str]) -> bool:
    began = time.monotonic()
    if name in finished():  # looked up late: a run also takes up what earlier, failed runs left in DVC's queue
        return True
    overrides = [part for item in settings for part in ("-S", item)]
    done = subprocess.run(
        [*DVC, "exp", "run", "--temp", "-n", name, *overrides],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(f"{name}: {'finished' if done.returncode == 0 else 'failed'} after {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-3000:], flush=True)
    return done.returncode == 0


def main() -> None:
    with ThreadPoolExecutor(JOBS) as pool:
        succeeded = list(pool.map(run, cells().keys(), cells().values()))
    print(f"python -m stages.compare {' '.join(cells())} --out reports/comparison")
    if not all(succeeded):
        sys.exit("some runs failed; `make arms` runs them again")


if __name__ == "__main__":
    main()
