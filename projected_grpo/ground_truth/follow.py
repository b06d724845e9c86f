"""Labels of a training job that is still running, read from its checkpoints by a process of its own.

The training job neither knows of this nor waits for it: it writes the rows of its rollouts into its checkpoint folder
anyway, and nothing here is written back.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import read_rows
from projected_grpo.core.runtime import OUTPUTS, scratch_root
from projected_grpo.core.tables import ROLLOUTS
from projected_grpo.ground_truth.labels import exploits
from projected_grpo.ground_truth.monitor import GroundTruthMonitor

POLL_S = 0.2


def newest_run() -> Path:
    """The checkpoint folder of an unfinished run that was written to last. Raises InputError where there is none."""
    root = scratch_root()
    runs = [path for path in root.glob("*") if path.is_dir() and path.suffix == "" and not (path / OUTPUTS).exists()]
    if not runs:
        raise InputError(f"{root}: no training job that is under way has checkpoints there; start one, or set PGRPO_SCRATCH as it does")
    return max(runs, key=lambda path: path.stat().st_mtime)


def follow(run: Path, problems: list[dict], monitor: GroundTruthMonitor, report: Callable[[list[dict], list[dict]], None]) -> None:
    """Give `report` the rollouts of each new checkpoint with their labels, until the job has finished."""
    for rows in _new_rollouts(run):
        report(rows, exploits(rows, problems, monitor))


def _new_rollouts(run: Path) -> Iterator[list[dict]]:
    """The rows of each new checkpoint."""
    seen: set[str] = set()
    running = True
    while running:
        running = is_held(run.with_suffix(".lock"))
        for part in sorted(path for path in run.glob("step-*") if path.suffix == "" and path.name not in seen):
            seen.add(part.name)
            yield read_rows(part / "rollouts.parquet", ROLLOUTS)
        time.sleep(POLL_S)


def is_held(lock: Path) -> bool:
    """Whether a training job, which locks this file, is alive."""
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
