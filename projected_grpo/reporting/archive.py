"""Runs as a folder of Parquet tables to publish: one folder a table, which `datasets` loads as it is.

A table of runs is one file with the columns arm and seed before its own, run by run. Settings, plans and the facts of
runs lie in settings/ at the paths of the project.
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from projected_grpo.parquet import Table, read_table
from projected_grpo.reporting.saved import RUN_FACTS, RUN_TABLES, SETTINGS, Saved, SavedError, named, shown_arm
from projected_grpo.settings import SettingsError
from projected_grpo.tables import I32, STR

RUN_COLUMNS = {"arm": (STR, "name of the arm"), "seed": (I32, "of training and evaluation")}
CARD = """---
pretty_name: {title}
configs:
{configs}
---
# {title}

Rollouts of GRPO in an environment with loopholes, each routed by its score along a direction, and what the ground-truth
monitor says of them. Runs: {runs}.

`datasets.load_dataset("parquet", data_files="rollouts/*.parquet")` loads one table. In the project,
`python -m stages.reanalyse --archive FOLDER --out OTHER` labels and tests the saved rollouts again.

{tables}"""


def archived(table: Table) -> Table:
    """A table of runs as an archive holds it."""
    return Table(table.name, (*RUN_COLUMNS, *table.key), {**RUN_COLUMNS, **table.columns})


def pack(saved: Saved, home: Path, folder: Path) -> None:
    """Write what lies below `home` as an archive, `folder`."""
    verdict = [saved.verdict] if saved.verdict and (home / saved.verdict).exists() else []
    for path in (*saved.settings, *verdict):
        (folder / "settings" / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (home / path).is_dir() else shutil.copyfile
        copy(home / path, folder / "settings" / path)
    for path, table in saved.shared.items():
        (folder / table.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / path, folder / _place(path, table))
    for name, table in RUN_TABLES.items():
        _join(saved, home, name, table, folder / table.name / f"{table.name}.parquet")
    (folder / "README.md").write_text(_card(saved, home))


def unpack(folder: Path, home: Path) -> Saved:
    """Lay an archive out below `home` as a revision does. Raises SavedError, or TableError for a table of another schema."""
    if not (folder / "settings" / SETTINGS).is_file():
        raise SavedError(f"{folder}: holds no settings/{SETTINGS}; expected a folder that `python -m stages.archive` wrote")
    shutil.copytree(folder / "settings", home)
    campaign = next((path.parent.relative_to(home) for path in home.glob("campaigns/*/params.yaml")), None)
    try:
        saved = named(home, campaign, lambda run: (home / run.home / RUN_FACTS).exists())
    except SettingsError as error:
        raise SavedError(str(error).replace(f"{home}/", f"{folder}/settings/")) from error
    for path, table in saved.shared.items():
        read_table(folder / _place(path, table), table)
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / _place(path, table), home / path)
    for name, table in RUN_TABLES.items():
        _split(saved, home, name, table, folder / table.name / f"{table.name}.parquet")
    return saved


def _place(path: Path, table: Table) -> Path:
    """problems/problems.parquet, directions/v_act.parquet."""
    return Path(table.name) / f"{path.parent.name if 'directions' in path.parts else table.name}.parquet"


def _join(saved: Saved, home: Path, name: str, table: Table, path: Path) -> None:
    path.parent.mkdir()
    schema = archived(table).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for run in saved.runs:
            rows = read_table(home / run.home / f"{name}.parquet", table).select(list(table.columns))
            own = [pa.array([value] * len(rows), kind) for value, kind in ((run.arm, STR), (run.seed, I32))]
            writer.write_table(pa.Table.from_arrays([*own, *rows.columns], schema=schema))


def _split(saved: Saved, home: Path, name: str, table: Table, path: Path) -> None:
    rows = read_table(path, archived(table))
    for run in saved.runs:
        ours = rows.filter((pc.field("arm") == run.arm) & (pc.field("seed") == run.seed)).select(list(table.columns))
        if not len(ours) and table.name == "rollouts":
            raise SavedError(f"{path}: has no row of arm '{run.arm}' with seed {run.seed}; download it again")
        target = home / run.home / f"{name}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        data = pa.Table.from_arrays(ours.combine_chunks().columns, schema=table.schema)
        pq.write_table(data, target, compression="zstd")


def _card(saved: Saved, home: Path) -> str:
    tables = {table.name: archived(table) for table in RUN_TABLES.values()} | {table.name: table for table in saved.shared.values()}
    return CARD.format(
        title=f"projected_grpo, {saved.campaign.name if saved.campaign else saved.runs[0].arm}",
        configs="\n".join(f"- config_name: {name}\n  data_files: {name}/*.parquet" for name in tables),
        runs=", ".join(f"{shown_arm(run, home)} with seed {run.seed}" for run in saved.runs),
        tables="\n".join(_columns(table) for table in tables.values()),
    )


def _columns(table: Table) -> str:
    cells = ((name, str(kind), meaning.replace("|", "\\|")) for name, (kind, meaning) in table.columns.items())
    return f"## {table.name}\n\n| column | type | meaning |\n|---|---|---|\n" + "".join(f"| {' | '.join(row)} |\n" for row in cells)
