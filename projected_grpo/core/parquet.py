"""Parquet files of a declared schema. Bytes are deterministic: rows are sorted by the table's key, and no timestamp or
duration is stored. A file is written beside its target and renamed, so no reader sees half of it."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from projected_grpo.core.errors import InputError


class TableError(InputError):
    """A Parquet file that is not the table it should be; the message names the file and the column or row."""


@dataclass(frozen=True)
class Table:
    name: str
    key: tuple[str, ...]  # identifies a row; the sort order of the file
    columns: Mapping[str, pa.DataType]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(list(self.columns.items()), metadata={"table": self.name})


def write_table(path: Path, table: Table, rows: Sequence[Mapping]) -> None:
    """Write rows, sorted by the table's key, to `path`. Raises TableError for a row that does not fit the table."""
    for index, row in enumerate(rows):
        if unlike := set(row) ^ set(table.columns):
            raise TableError(f"{path}: row {index}: columns differ by {sorted(unlike)} from {table.name}")
    columns = []
    for field in table.schema:
        try:
            columns.append(pa.array([row[field.name] for row in rows], field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise TableError(f"{path}: column '{field.name}' of {table.name}: {error}") from error
    _save(path, _sorted(path, table, pa.Table.from_arrays(columns, schema=table.schema)))


def concat_tables(parts: Sequence[Path], table: Table, path: Path) -> None:
    """Join files of one table into `path`, sorted by the table's key."""
    _save(path, _sorted(path, table, pa.concat_tables([read_table(part, table) for part in parts])))


def _sorted(path: Path, table: Table, data: pa.Table) -> pa.Table:
    """The rows in the order of the table's key. Raises TableError for a null or repeated key."""
    for name in table.key:
        if data[name].null_count:
            raise TableError(f"{path}: column '{name}' of {table.name} is part of the key and holds a null")
    data = data.sort_by([(name, "ascending") for name in table.key]).combine_chunks()
    keys = Counter(zip(*(data[name].to_pylist() for name in table.key)))
    if repeated := [list(key) for key, count in keys.items() if count > 1]:
        raise TableError(f"{path}: two rows of {table.name} share the key {repeated[0]}")
    return data


def _save(path: Path, data: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(data, partial, compression="zstd")
    os.replace(partial, path)


def read_table(path: Path, table: Table) -> pa.Table:
    """Read `path` and check it against `table`. Raises TableError for a missing, truncated or foreign file."""
    if not path.is_file():
        raise TableError(f"{path}: is no file; expected the table {table.name}, an output of the stage that lists it in dvc.yaml")
    try:
        data = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise TableError(f"{path}: cannot be read as the Parquet table {table.name}: {error}") from error
    for name, kind in table.columns.items():
        if name not in data.schema.names:
            raise TableError(f"{path}: column '{name}' is missing; expected the table {table.name}")
        if data.schema.field(name).type != kind:
            raise TableError(f"{path}: column '{name}' is {data.schema.field(name).type}, expected {kind}")
    if extra := set(data.schema.names) - set(table.columns):
        raise TableError(f"{path}: unknown columns {sorted(extra)}; expected the table {table.name}")
    return data


def read_rows(path: Path, table: Table) -> list[dict]:
    """The rows of `path` as dictionaries, in the order of the table's key."""
    return read_table(path, table).to_pylist()
