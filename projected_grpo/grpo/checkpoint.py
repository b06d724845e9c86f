"""Resume state of a training run: outside every DVC output, keyed by everything that decides the run's result.

A checkpoint is a folder step-NNNNNN with the state after that step and the table rows since the checkpoint before it.
It is written beside its name and renamed, so a killed run leaves either a whole checkpoint or none. The key hashes the
settings, the input files and the code, so a checkpoint of another run is never picked up.

A finished run's checkpoints stay for a day, or until the next run with the same outputs is finished: DVC records outputs after
the command has ended, and a kill before that loses no training. Those of unfinished runs stay for a month.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
import transformers

from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import Table, concat_tables, read_rows, write_table
from projected_grpo.core.runtime import OUTPUTS
from projected_grpo.core.tables import FEATURES, GATE, ROLLOUTS, STEPS
from projected_grpo.grpo import ranks

TABLES = {table.name: table for table in (ROLLOUTS, GATE, FEATURES, STEPS)}
STATE = "state.pt"
KEPT_DAYS = {True: 1, False: 30}  # is the run finished -> for how long its checkpoints stay


class CheckpointError(InputError):
    """Checkpoints that another process holds or that are not whole; the message names their folder."""


def fingerprint(settings: str, inputs: Iterable[Path], code: Iterable[Path]) -> str:
    """Hex digest of the settings' text and of the content of files and folders, with their relative names."""
    versions = f"{torch.__version__}\n{transformers.__version__}\n{torch.get_num_threads()} {ranks.count()}"
    digest = hashlib.sha256(f"{settings}\n{versions}".encode())
    for path in [*inputs, *code]:
        inside = (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        for file in [path] if path.is_file() else sorted(inside):
            digest.update(f"\n{file}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one run, held under a lock that the kernel frees when the process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder.with_suffix(".lock"), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise CheckpointError(f"{folder}: another process trains the same arm now; wait for it or stop it") from error
        for partial in folder.glob("*.partial"):
            shutil.rmtree(partial)
        for other in _others(folder):
            with suppress(FileNotFoundError):  # another process removed it
                if time.time() - other.stat().st_mtime > KEPT_DAYS[(other / OUTPUTS).exists()] * 86400:
                    _remove(other)

    def _complete(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.suffix == "")

    def steps(self) -> int:
        """Steps behind the last whole checkpoint; 0 at the start of a run."""
        complete = self._complete()
        return int(complete[-1].name.removeprefix("step-")) if complete else 0

    def latest(self) -> dict | None:
        """The state of the last whole checkpoint, or None at the start of a run."""
        complete = self._complete()
        return torch.load(complete[-1] / STATE, weights_only=True) if complete else None

    def save(self, step: int, state: dict, rows: Mapping[str, Sequence[dict]]) -> None:
        """Keep `state` after `step` with the rows of all steps since the last checkpoint."""
        partial = self.folder / f"step-{step:06d}.partial"
        partial.mkdir()
        torch.save(state, partial / STATE)
        for name, table in TABLES.items():
            write_table(partial / f"{name}.parquet", table, rows[name])
        earlier = self._complete()
        partial.rename(partial.with_suffix(""))
        if earlier:
            (earlier[-1] / STATE).unlink()  # the newest state is enough; the rows stay

    def collect(self, outputs: Mapping[str, Path], steps: int) -> None:
        """Join the rows of all checkpoints, `steps` steps, into the run's tables. Raises CheckpointError where one is missing."""
        found = [row["step"] for row in self.rows(STEPS.name)]
        if found != list(range(steps)):
            raise CheckpointError(f"{self.folder}: found {len(found)} steps, expected {steps}; delete this folder")
        for name, path in outputs.items():
            table: Table = TABLES[name]
            concat_tables([folder / f"{name}.parquet" for folder in self._complete()], table, path)

    def rows(self, name: str) -> list[dict]:
        """Those of a table that all whole checkpoints hold."""
        return [row for folder in self._complete() for row in read_rows(folder / f"{name}.parquet", TABLES[name])]

    def finish(self, outputs: Path) -> None:
        """The run has written its `outputs`. Earlier finished runs that wrote to the same folder are forgotten."""
        (self.folder / OUTPUTS).write_text(str(outputs.absolute()))
        os.utime(self.folder)
        for other in _others(self.folder):
            with suppress(FileNotFoundError):
                if (other / OUTPUTS).read_text() == str(outputs.absolute()):
                    _remove(other)
        os.close(self._lock)


def _others(folder: Path) -> list[Path]:
    """The checkpoints of other runs; what a kill left of removed ones goes now."""
    for removed in folder.parent.glob("*.removed"):
        shutil.rmtree(removed, ignore_errors=True)
    return sorted(path for path in folder.parent.iterdir() if path.is_dir() and path not in (folder, folder.with_suffix(".removed")))


def _remove(folder: Path) -> None:
    """Unless a process trains that run now. The rename is atomic, so a kill in between leaves nothing that could be resumed."""
    lock = os.open(folder.with_suffix(".lock"), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder.rename(folder.with_suffix(".removed")), ignore_errors=True)  # so may another process
        folder.with_suffix(".lock").unlink()
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
