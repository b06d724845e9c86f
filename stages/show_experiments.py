"""Print the experiments of this commit by their deployed hack rate: what they measured, the settings in which they differ, and why they
were run, as `dvc exp run -m` was told."""

import subprocess
from collections.abc import Mapping, Sequence

import dvc.api
from dvc.repo import Repo
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from projected_grpo.core.runtime import run_stage
from projected_grpo.reporting.statements import words

MEASURED = ("hack_rate", "qmass", "solve_rate", "selectivity")
ALONE = ("seed", "launch")
LOCK = "requirements.lock"  # beside the paths with a folder, the one file among the dependencies that a row has too
COMMON = ("Experiment", "rev", "typ", "Created", "parent", "State", "Executor")  # keys of a row that are DVC's own
OWN_MESSAGE = "dvc: commit experiment"  # of a commit that was given none
EXAMPLE = "python -m stages.show_experiments"


def main() -> None:
    rows, console = dvc.api.exp_show(), Console()
    console.print(table(rows))
    if said := messages(rows):
        console.print(reasons(said))


def table(rows: Sequence[dict]) -> Table:
    """`rows` as DVC's API gives them."""
    settings = [key for key in dict.fromkeys(key for row in rows for key in row) if is_setting(key)]
    differing = [key for key in settings if len({str(row.get(key)) for row in rows}) > 1]
    shown = Table("experiment", *MEASURED, *(key.rpartition(":")[2] for key in differing), box=SIMPLE, padding=(0, 1, 0, 0))
    for row in sorted(rows, key=lambda row: (row.get("hack_rate") is None, row.get("hack_rate"))):
        state = [f"({row['State'].lower()})"] if row["State"] in ("Running", "Queued", "Failed") else []
        settings = [f"{value:g}" if isinstance(value := row.get(key), float) else str(value) for key in differing]
        shown.add_row(" ".join([row["Experiment"] or row["rev"], *state]), *(words(row.get(key)) for key in MEASURED), *settings)
    return shown


def is_setting(key: str) -> bool:
    """A key of settings is sectioned, such as gate.policy, names its file before a colon, or stands alone; other keys are DVC's own and files."""
    return key in ALONE or ":" in key or "." in key and "/" not in key and key not in (*COMMON, LOCK)


def messages(rows: Sequence[dict]) -> dict[str, str]:
    """Experiment -> its message, where it was given one: from the queue while it waits, runs or has failed, and else from its commit."""
    with Repo() as repo:
        queue = repo.experiments.celery_queue.celery
        tasks = [(args, named) for sent in (*queue.iter_queued(), *queue.iter_processed()) for args, named, _ in [sent.decode()]]
    told = {args[0]["stash_rev"][:7]: named.get("message") for args, named in tasks if args and isinstance(args[0], dict)}
    found = {}
    for row in rows:
        name = row["Experiment"] or row["rev"]
        if row["rev"] in told:
            found[name] = told[row["rev"]]
        elif row["Experiment"]:
            said = subprocess.run(["git", "log", "-1", "--format=%B", row["rev"]], check=True, text=True, capture_output=True).stdout.strip()
            found[name] = None if said.startswith(OWN_MESSAGE) else said
    return {name: said for name, said in found.items() if said}


def reasons(said: Mapping[str, str]) -> Table:
    shown = Table("experiment", "why, and what would resolve it", box=SIMPLE, padding=(0, 1, 0, 0))
    for name, text in said.items():
        shown.add_row(name, Text(text))
    return shown


if __name__ == "__main__":
    run_stage(main)
