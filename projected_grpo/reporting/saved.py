"""What a finished run or campaign left, at the paths of dvc.yaml, copied from a revision into a folder of its own.

Files come from the working folder or from git where they lie there, and else from DVC's cache or remote.
"""

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import SCMError

from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import Table, TableError, read_rows, read_table
from projected_grpo.core.tables import (
    DIAGNOSTICS,
    DIFFERENCES,
    DIRECTIONS,
    EVAL,
    EVAL_ROLLOUTS,
    FEATURES,
    GATE,
    GROUND_TRUTH,
    LABELS,
    PAIR_AUDIT,
    PAIRS,
    PROBLEMS,
    ROLLOUTS,
    STEPS,
    ZONES,
)  # fmt: skip
from projected_grpo.reporting.manifest import Arm
from projected_grpo.reporting.verdict import arm_name
from projected_grpo.settings.arm import DIRECTIONS as DIRECTION_NAMES
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.campaign import load_campaign
from projected_grpo.settings.files import SettingsError

WORKSPACE = "workspace"
SETTINGS, PROFILES, RUN_FACTS = Path("params.yaml"), Path("profiles"), "train/run.json"
LAST = "zones.parquet"  # of the tables of a run, that of the last stage
MODEL = (Path("artifacts/base"), Path("artifacts/init"))
RUN_TABLES = {
    "train/rollouts": ROLLOUTS, "train/gate": GATE, "train/features": FEATURES, "train/steps": STEPS, "labels": LABELS,
    "eval_rollouts": EVAL_ROLLOUTS, "eval": EVAL, "diagnostics": DIAGNOSTICS, "zones": ZONES,
}  # fmt: skip
SHARED_TABLES = {
    "problems": PROBLEMS, "ground_truth": GROUND_TRUTH, "pairs": PAIRS, "pair_audit": PAIR_AUDIT, "directions/v_act/differences": DIFFERENCES,
    **{f"directions/{name}/direction": DIRECTIONS for name in DIRECTION_NAMES},
}  # fmt: skip


class SavedError(InputError):
    """A run that cannot be taken from a revision or an archive; the message names it, the file and what to do."""


@dataclass(frozen=True)
class Run:
    arm: str
    seed: int
    home: Path  # folder of its tables, from the project's folder
    params: Path  # its settings file, likewise


@dataclass(frozen=True)
class Saved:
    """One run, whose tables lie where the shared ones do, or the finished cells of a campaign."""

    runs: list[Run]
    tested: list[Run]  # those of them whose readings the offline gate test scores, one or none
    campaign: Path | None  # folder of the campaign, such as campaigns/toy2
    plan: Path | None  # of the campaign; without one it has no verdict

    @property
    def settings(self) -> list[Path]:
        """Files that are no tables: settings files, the plan, and of each run its facts."""
        own = {run.params: None for run in self.runs} | {run.home / RUN_FACTS: None for run in self.runs}
        return list(dict.fromkeys(_shared_settings(self.campaign, self.plan)) | own)

    @property
    def shared(self) -> dict[Path, Table]:
        return {Path("artifacts") / f"{name}.parquet": table for name, table in SHARED_TABLES.items()}

    @property
    def tables(self) -> dict[Path, Table]:
        """Every table, those of the runs among them."""
        return self.shared | {run.home / f"{name}.parquet": table for run in self.runs for name, table in RUN_TABLES.items()}

    @property
    def results(self) -> list[Path]:
        """Files of a campaign that are there once it was judged: the verdict, and the offline gate test of its chosen run."""
        if self.plan is None:
            return []
        return [self.verdict, self.campaign / "offline_gate.parquet", self.campaign / "null_histograms.parquet"]

    @property
    def verdict(self) -> Path | None:
        return self.plan and self.campaign / "reports" / "verdict.json"


def fetch(rev: str, campaign: Path | None, home: Path, model: bool, seeds: Collection[int] = ()) -> Saved:
    """Copy the run of a git revision or DVC experiment, or its campaign's finished cells, into the folder `home`.

    `seeds`: of the cells those with these seeds; all where none is given. `workspace` names the working folder. `model`: with the base model and the adapter's initialization. Raises
    SavedError for an unknown revision, a file that is missing, and settings or a table that are not those of this code.
    """
    files = DVCFileSystem(rev=None if rev == WORKSPACE else rev)
    try:
        files.repo  # is opened here
    except SCMError as error:
        raise SavedError(
            f"revision {rev}: {error}; expected {WORKSPACE}, a git revision, or an experiment of `dvc exp list --all-commits`"
        ) from error
    try:
        _copy(files, rev, _shared_settings(campaign, _plan(campaign, lambda path: _made(files, path))), home)
        saved = named(home, campaign, lambda run: (not seeds or run.seed in seeds) and _made(files, run.home / LAST))
        _copy(files, rev, [*saved.settings, *saved.tables, *(MODEL if model else ())], home)
        for path, table in saved.tables.items():
            read_table(home / path, table)
    except (SettingsError, TableError) as error:
        found = str(error).replace(f"{home}/", "")
        raise SavedError(f"revision {rev}: {found}; read it with the code of its own commit, or run the pipeline again") from error
    _copy(files, rev, [path for path in saved.results if _made(files, path)], home)
    return saved


def named(home: Path, campaign: Path | None, finished: Callable[[Run], bool]) -> Saved:
    """The runs that the settings below `home` name: that of the pipeline, or those cells of the campaign that are finished.

    Raises SavedError where no cell is.
    """
    if campaign is None:
        settings = load_settings(home)
        run = Run(Arm.of(settings).name, settings.seed, Path("artifacts"), SETTINGS)
        return Saved([run], [run], None, None)
    planned = load_campaign(home / campaign / "params.yaml")
    cells = [
        Run(arm, int(seed), campaign / "cells" / arm / seed, campaign / "arms" / arm / "params.yaml")
        for arm, seed in planned.runs
    ]
    if not (runs := [run for run in cells if finished(run)]):
        raise SavedError(
            f"{campaign}: no cell is finished in this revision; run `python -m stages.campaign {campaign}`, and commit the dvc.lock "
            "that it writes, or read the revision `workspace`"
        )
    tested = [run for run in runs if f"{run.arm}/{run.seed}" == planned.offline_run]
    return Saved(runs, tested, campaign, _plan(campaign, lambda path: (home / path).exists()))


def shown_arm(run: Run, home: Path) -> str:
    """The name of the run's arm, which says so where the arm uses ground truth."""
    arm = Arm.of(load_settings(home, run.params))
    return run.arm if run.arm == arm.name else arm_name(run.arm, arm.uses_ground_truth)


def add_direction(path: Path, home: Path) -> str:
    """Copy the direction in the file `path` to those below `home`, and return its name.

    Raises SavedError where its name is taken or it has none of the saved readings, DirectionError where it does not fit the model.
    """
    from projected_grpo.gate.directions import load_directions  # imports torch, which an archive does without

    names = {row["direction"] for row in read_rows(path, DIRECTIONS)}
    if len(names) != 1:
        raise SavedError(f"{path}: holds {len(names)} directions, expected one; write each into a file of its own")
    name, folder = names.pop(), home / "artifacts" / "directions"
    if (folder / name).exists():
        raise SavedError(f"{path}: the run has a direction '{name}' already; give this one another name in the column direction")
    readings = {row["reading"] for row in read_rows(path, DIRECTIONS)} & set(load_settings(home).gate.features)
    if not readings:
        raise SavedError(f"{path}: has none of the readings that the run saved, {', '.join(load_settings(home).gate.features)}")
    own = read_rows(folder / "v_act" / "direction.parquet", DIRECTIONS)
    for reading in sorted(readings):
        load_directions(path, name, reading, {row["module"]: len(row["vector"]) for row in own if row["reading"] == reading})
    (folder / name).mkdir()
    shutil.copyfile(path, folder / name / "direction.parquet")
    return name


def _plan(campaign: Path | None, there: Callable[[Path], bool]) -> Path | None:
    """Campaigns to look at, such as campaigns/explore, have none."""
    path = campaign and campaign / "plan.md"
    return path if path and there(path) else None


def _shared_settings(campaign: Path | None, plan: Path | None) -> list[Path]:
    return [SETTINGS, PROFILES, *([campaign / "params.yaml"] if campaign else []), *([plan] if plan else [])]


def _made(files: DVCFileSystem, path: Path) -> bool:
    """Whether the revision has the file, cached or not. An output of a stage that has not run is there with size 0."""
    return files.exists(str(path)) and files.info(str(path))["size"] != 0


def _copy(files: DVCFileSystem, rev: str, paths: Iterable[Path], home: Path) -> None:
    for path in paths:
        if (home / path).exists():  # settings name the runs, and are copied before
            continue
        if not _made(files, path):
            raise SavedError(
                f"revision {rev}: holds no {path}; expected a revision in which the pipeline ran and whose dvc.lock is committed, or "
                "`workspace`; with --campaign, the folder of a campaign, such as campaigns/toy2"
            )
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get(str(path), str(home / path), recursive=files.isdir(str(path)))
        except (OSError, DvcException) as error:
            raise SavedError(
                f"revision {rev}: {path} is neither in DVC's cache nor in a remote; bring it with `dvc pull {path}`, run where "
                "that revision is checked out, or read the revision `workspace` after `dvc repro`"
            ) from error
