"""Runs as a folder of Parquet tables to publish: one folder a table, which `datasets` loads as it is.

A table of runs is one file with the columns arm and seed before its own, run by run. Settings, plans and the facts of
runs lie in settings/ at the paths of the project. A slim archive leaves out what only new directions or training need: readings
and what is computed from them, tokens and their log-probabilities. Its run of the toy profile has a fifth of a megabyte in place of six.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from projected_grpo.core.parquet import Table, read_table
from projected_grpo.core.tables import I32, STR
from projected_grpo.messages.columns import MEANINGS
from projected_grpo.reporting.saved import RUN_FACTS, RUN_TABLES, SETTINGS, Saved, SavedError, named, shown_arm
from projected_grpo.settings.files import SettingsError

NOT_IN_SLIM = {"features", "diagnostics"}  # tables that are empty there
NULL_IN_SLIM = {"rollouts": ("prompt_tokens", "completion_tokens", "sampler_logprob"), "gate": ("cosine",)}  # table -> columns
WHOLE_TEXT = ("rollouts", "eval_rollouts")  # tables in which a program that is the whole text is null there
NAMES = "rollout_id"  # a column of sorted names, of which each shares its beginning with the one before
RUN_COLUMNS = {"arm": STR, "seed": I32}
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


def pack(saved: Saved, home: Path, folder: Path, slim: bool = False) -> None:
    """Write what lies below `home` as an archive, `folder`."""
    for path in (*saved.settings, *(path for path in saved.results if (home / path).exists())):
        (folder / "settings" / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (home / path).is_dir() else shutil.copyfile
        copy(home / path, folder / "settings" / path)
    for path, table in saved.shared.items():
        (folder / table.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / path, folder / _place(path, table))
    for name, table in RUN_TABLES.items():
        _join(saved, home, name, table, folder / table.name / f"{table.name}.parquet", slim)
    (folder / "README.md").write_text(_card(saved, home))


def unpack(folders: Sequence[Path], home: Path) -> Saved:
    """Lay archives out below `home` as a revision does: one, or several of one campaign, each with runs of its own.

    Raises SavedError, or TableError for a table of another schema.
    """
    for folder in folders:
        if not (folder / "settings" / SETTINGS).is_file():
            raise SavedError(f"{folder}: holds no settings/{SETTINGS}; expected a folder that `python -m stages.archive` wrote")
        for path in sorted(path for path in (folder / "settings").rglob("*") if path.is_file()):
            _lay(path, home / path.relative_to(folder / "settings"))
    saved = [_unpack(folder, home) for folder in folders]
    return replace(saved[0], runs=[run for one in saved for run in one.runs], tested=[run for one in saved for run in one.tested])


def _unpack(folder: Path, home: Path) -> Saved:
    """The runs of one archive, whose settings lie below `home` already."""
    campaign = next((path.parent.relative_to(home) for path in home.glob("campaigns/*/params.yaml")), None)
    try:
        saved = named(home, campaign, lambda run: (folder / "settings" / run.home / RUN_FACTS).exists())
    except SettingsError as error:
        raise SavedError(str(error).replace(f"{home}/", f"{folder}/settings/")) from error
    for path, table in saved.shared.items():
        read_table(folder / _place(path, table), table)
        _lay(folder / _place(path, table), home / path)
    for name, table in RUN_TABLES.items():
        _split(saved, home, name, table, folder / table.name / f"{table.name}.parquet")
    return saved


def _lay(file: Path, target: Path) -> None:
    """Copy a file. Raises SavedError where another archive has another one in its place."""
    if target.exists() and target.read_bytes() != file.read_bytes():
        raise SavedError(f"{file}: differs from that of another archive; give archives of one campaign, with the same settings and inputs")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _place(path: Path, table: Table) -> Path:
    """problems/problems.parquet, directions/v_act.parquet."""
    return Path(table.name) / f"{path.parent.name if 'directions' in path.parts else table.name}.parquet"


def _join(saved: Saved, home: Path, name: str, table: Table, path: Path, slim: bool) -> None:
    path.parent.mkdir()
    schema = archived(table).schema
    others = [column for column in schema.names if column != NAMES]
    encoded = {"use_dictionary": others, "column_encoding": {NAMES: "DELTA_BYTE_ARRAY"}} if NAMES in schema.names else {}
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=19, **encoded) as writer:
        for run in saved.runs:
            rows = read_table(home / run.home / f"{name}.parquet", table).select(list(table.columns))
            rows = _slim(rows, table) if slim else rows
            own = [pa.array([value] * len(rows), kind) for value, kind in ((run.arm, STR), (run.seed, I32))]
            writer.write_table(pa.Table.from_arrays([*own, *rows.columns], schema=schema))


def _slim(rows: pa.Table, table: Table) -> pa.Table:
    if table.name in NOT_IN_SLIM:
        return rows.slice(0, 0)
    for column in NULL_IN_SLIM.get(table.name, ()):
        rows = _with(rows, column, pa.nulls(len(rows), rows.schema.field(column).type))
    if table.name in WHOLE_TEXT:
        whole = pc.equal(rows["program"], rows["text"])
        rows = _with(rows, "program", pc.if_else(whole, pa.scalar(None, pa.string()), rows["program"]))
    return rows


def _with(rows: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    place = rows.schema.get_field_index(column)
    return rows.set_column(place, rows.schema.field(place), values)


def _split(saved: Saved, home: Path, name: str, table: Table, path: Path) -> None:
    rows = read_table(path, archived(table))
    for run in saved.runs:
        ours = rows.filter((pc.field("arm") == run.arm) & (pc.field("seed") == run.seed)).select(list(table.columns))
        if table.name in WHOLE_TEXT:
            ours = _with(ours, "program", pc.coalesce(ours["program"], ours["text"]))
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
    meanings = {"arm": "name of the arm", "seed": "of training and evaluation"} | MEANINGS[table.name]
    cells = ((name, str(kind), meanings[name].replace("|", "\\|")) for name, kind in table.columns.items())
    return f"## {table.name}\n\n| column | type | meaning |\n|---|---|---|\n" + "".join(f"| {' | '.join(row)} |\n" for row in cells)
