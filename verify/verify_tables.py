"""A table's bytes depend on its rows alone; a file or a row that does not fit its table is refused by name.

No table that training reads or writes has a column that is a ground-truth label."""

import math
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from projected_grpo.analysis import results
from projected_grpo.core import tables
from projected_grpo.core.parquet import Table, TableError, read_rows, read_table, write_table
from projected_grpo.messages.columns import MEANINGS

DECLARED = [value for module in (tables, results) for value in vars(module).values() if isinstance(value, Table)]
TABLES = sorted(DECLARED, key=lambda table: table.name)
OF_TRAINING = ("problems", "pairs", "demonstrations", "directions", "rollouts", "gate", "features", "steps")
GROUND_TRUTH_COLUMNS = {"gt_correct", "exploited", "heldout_tests", "canonical_solution"}
VALUES = {
    pa.string(): "é \x00 text",
    pa.int32(): 7,
    pa.float32(): 0.5,
    pa.float64(): 0.1,
    pa.bool_(): True,
    tables.TOKENS: [3, 1, 2],
    tables.VECTOR: [0.5, -2.0],
}
WRONG = {
    pa.string(): 3,
    pa.int32(): "7",
    pa.float32(): "0.5",
    pa.float64(): "0.1",
    pa.bool_(): "True",
    tables.TOKENS: ["3"],
    tables.VECTOR: 0.5,
}


def _row(table: Table, key: int = 0) -> dict:
    row = {name: VALUES[kind] for name, kind in table.columns.items()}
    for name in table.key:
        row[name] = key if table.columns[name] == pa.int32() else f"{key:02d}"
    return row


def _rows(table: Table, count: int = 12) -> list[dict]:
    return [_row(table, key) for key in range(count)]


def by_name(table: Table) -> str:
    return table.name


@pytest.mark.parametrize("table", TABLES, ids=by_name)
def test_rows_come_back_as_written_in_the_order_of_the_key(tmp_path: Path, table: Table) -> None:
    rows = _rows(table)
    write_table(tmp_path / "a.parquet", table, rows[::-1])
    assert read_rows(tmp_path / "a.parquet", table) == rows


@pytest.mark.parametrize("table", TABLES, ids=by_name)
def test_the_bytes_do_not_depend_on_the_order_of_rows_or_columns(tmp_path: Path, table: Table) -> None:
    rows = _rows(table)
    write_table(tmp_path / "a.parquet", table, rows)
    first = (tmp_path / "a.parquet").read_bytes()
    for seed in range(3):
        order = random.Random(seed)
        mixed = [dict(order.sample(list(row.items()), len(row))) for row in order.sample(rows, len(rows))]
        write_table(tmp_path / "elsewhere" / f"b{seed}.parquet", table, mixed)
        assert (tmp_path / "elsewhere" / f"b{seed}.parquet").read_bytes() == first
    changed = [*rows[:-1], rows[-1] | {table.key[-1]: _row(table, 99)[table.key[-1]]}]
    write_table(tmp_path / "a.parquet", table, changed)
    assert (tmp_path / "a.parquet").read_bytes() != first


@pytest.mark.parametrize("table", TABLES, ids=by_name)
def test_every_column_has_a_meaning_and_the_file_names_its_table(tmp_path: Path, table: Table) -> None:
    write_table(tmp_path / "a.parquet", table, [])
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names == list(table.columns) and schema.metadata[b"table"] == table.name.encode()
    assert list(MEANINGS[table.name]) == list(table.columns) and all(MEANINGS[table.name].values())
    assert set(table.key) <= set(table.columns) and table.key


def test_meanings_are_of_tables_that_there_are() -> None:
    assert MEANINGS.keys() == {table.name for table in TABLES}


@pytest.mark.parametrize("table", TABLES, ids=by_name)
def test_two_rows_with_one_key_are_refused(tmp_path: Path, table: Table) -> None:
    with pytest.raises(TableError, match="share the key") as error:
        write_table(tmp_path / "a.parquet", table, [*_rows(table), _row(table, 5)])
    assert "a.parquet" in str(error.value) and table.name in str(error.value)
    assert str(_row(table, 5)[table.key[0]]) in str(error.value)


@pytest.mark.parametrize("table", TABLES, ids=by_name)
def test_a_row_with_a_missing_or_an_unknown_column_is_refused_by_file_and_column(tmp_path: Path, table: Table) -> None:
    for name in table.columns:
        short = {key: value for key, value in _row(table).items() if key != name}
        with pytest.raises(TableError, match=f"'{name}'") as error:
            write_table(tmp_path / "a.parquet", table, [_row(table, 1), short])
        assert "a.parquet" in str(error.value) and "row 1" in str(error.value)
    with pytest.raises(TableError, match="'surplus'"):
        write_table(tmp_path / "a.parquet", table, [_row(table) | {"surplus": 1}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", TABLES, ids=by_name)
def test_a_value_of_the_wrong_type_is_refused_by_file_and_column(tmp_path: Path, table: Table) -> None:
    for name, kind in table.columns.items():
        with pytest.raises(TableError, match=f"'{name}'") as error:
            write_table(tmp_path / "a.parquet", table, [_row(table) | {name: WRONG[kind]}])
        assert "a.parquet" in str(error.value) and table.name in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", TABLES, ids=by_name)
def test_a_file_with_another_schema_is_refused_by_file_and_column(tmp_path: Path, table: Table) -> None:
    path = tmp_path / "a.parquet"
    good = pa.Table.from_pylist(_rows(table), schema=table.schema)
    for name, kind in table.columns.items():
        pq.write_table(good.drop_columns([name]), path)
        with pytest.raises(TableError, match=f"a.parquet: column '{name}' is missing"):
            read_table(path, table)
        other = pa.int64() if kind == pa.string() else pa.string()
        place = good.schema.get_field_index(name)
        pq.write_table(good.set_column(place, name, pa.nulls(len(good), other)), path)
        with pytest.raises(TableError, match=f"a.parquet: column '{name}' is {other}, expected"):
            read_table(path, table)
    pq.write_table(good.append_column("surplus", pa.nulls(len(good), pa.int32())), path)
    with pytest.raises(TableError, match="a.parquet: .*surplus"):
        read_table(path, table)


def test_a_missing_a_truncated_and_a_foreign_file_are_refused_by_name(tmp_path: Path) -> None:
    path, table = tmp_path / "a.parquet", tables.ROLLOUTS
    with pytest.raises(TableError, match="a.parquet: is no file; expected the table rollouts"):
        read_table(path, table)
    write_table(path, table, _rows(table))
    data = path.read_bytes()
    for cut in (0, 3, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(TableError, match="a.parquet: cannot be read"):
            read_table(path, table)
    path.write_bytes(b"rollout_id,reward\n1,2\n")
    with pytest.raises(TableError, match="a.parquet: cannot be read"):
        read_table(path, table)
    write_table(path, tables.PAIRS, _rows(tables.PAIRS))
    with pytest.raises(TableError, match="a.parquet: column 'rollout_id' is missing; expected the table rollouts"):
        read_table(path, table)


@pytest.mark.parametrize("failure", ["duplicate", "type", "disk"])
def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, failure: str) -> None:
    path, table = tmp_path / "a.parquet", tables.STEPS
    write_table(path, table, _rows(table))
    before = path.read_bytes()
    rows = {"duplicate": [_row(table)] * 2, "type": [_row(table) | {"kl": "x"}], "disk": [_row(table)]}[failure]
    if failure == "disk":
        (tmp_path / "a.parquet.partial").mkdir()  # the place of the new file cannot be written
    with pytest.raises((TableError, OSError)):
        write_table(path, table, rows)
    assert path.read_bytes() == before and read_rows(path, table) == _rows(table)


def test_numbers_survive_exactly_and_null_is_not_nan(tmp_path: Path) -> None:
    numbers = {"kl": 0.1 + 0.2, "qmass": None, "rho_keep": float("nan"), "learning_rate": 5e-324}
    row = _row(tables.STEPS) | numbers
    write_table(tmp_path / "a.parquet", tables.STEPS, [row])
    back = read_rows(tmp_path / "a.parquet", tables.STEPS)[0]
    assert (back["kl"], back["qmass"], back["learning_rate"]) == (0.1 + 0.2, None, 5e-324)
    assert math.isnan(back["rho_keep"])


def test_a_key_may_not_be_null(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="a.parquet"):
        write_table(tmp_path / "a.parquet", tables.STEPS, [_row(tables.STEPS, 1), _row(tables.STEPS) | {"step": None}])


def test_a_whole_number_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="a.parquet"):
        write_table(tmp_path / "a.parquet", tables.STEPS, [_row(tables.STEPS) | {"step": 1 << 40}])


def test_no_table_of_training_has_a_ground_truth_column() -> None:
    of_training = [table for table in TABLES if table.name in OF_TRAINING]
    assert sorted(table.name for table in of_training) == sorted(OF_TRAINING)
    for table in of_training:
        assert not GROUND_TRUTH_COLUMNS & set(table.columns), table.name
    assert GROUND_TRUTH_COLUMNS == {
        name for table in TABLES if table.name not in OF_TRAINING for name in table.columns
    } & GROUND_TRUTH_COLUMNS
