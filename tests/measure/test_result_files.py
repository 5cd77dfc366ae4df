"""Predictions as files of rows, written as they are made."""

import csv
import importlib
import json

import pytest

from pointpeft.errors import ConfigError
from pointpeft.files import as_text
from pointpeft.measure.result_files import COLUMNS, ResultFile

NAMES = ["a.off", 'odd, "quoted"\nname.off', "tail\r.off", "b\udce9.off", "d.off"]
LINES, PACKED = [".csv", ".jsonl"], [".json", ".parquet"]
of_lines = pytest.mark.parametrize("suffix", LINES)
packed = pytest.mark.parametrize("suffix", PACKED)
every = pytest.mark.parametrize("suffix", [*LINES, *PACKED])


def as_row(name):
    bad = name == "d.off"
    return {
        "file": name,
        "class": None if bad else "box",
        "probability": None if bad else 0.5,
        "ranking": [] if bad else [{"class": "box", "probability": 0.5}],
        "unusual": None,
        "nearest": [],
        "warnings": ["two\nlines"],
        "error": "no such file" if bad else None,
    }


def write(path, names, resume=False, adapter="0123456789abcdef"):
    results = ResultFile.prepare(path, adapter, resume)
    todo = [name for name in names if not results.has(name)]
    assert list(results.written(todo, as_row)) == todo
    return results, todo


def files_in(path):
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        assert table.column_names == list(COLUMNS)
        return table["file"].to_pylist()
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        if path.suffix == ".csv":
            return [row["file"] for row in csv.DictReader(file)]
        rows = json.load(file) if path.suffix == ".json" else list(map(json.loads, file))
    assert all(tuple(row) == COLUMNS for row in rows)
    return [row["file"] for row in rows]


@every
def test_a_row_for_every_file(tmp_path, suffix):
    path, names = tmp_path / f"new/results{suffix}", list(NAMES)
    write(path, names)
    if suffix == ".parquet":
        names[3] = as_text(names[3])
    assert files_in(path) == names
    write(tmp_path / f"empty{suffix}", [])
    assert files_in(tmp_path / f"empty{suffix}") == []
    assert {each.name for each in tmp_path.rglob("*") if each.is_file()} == {
        path.name, f"empty{suffix}",
    }  # fmt: skip


@of_lines
@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_file_that_was_cut_goes_on_as_if_nothing_had_happened(tmp_path, suffix, cut):
    path = tmp_path / f"results{suffix}"
    write(path, NAMES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    results, todo = write(path, NAMES, resume=True)
    assert path.read_bytes() == whole
    assert results.done == set(NAMES) - set(todo)
    assert results.failed == ("d.off" in results.done)
    assert (not todo) == (cut == 0)


@every
def test_what_is_there_is_not_written_over(tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    write(path, NAMES)
    before = path.read_bytes()
    for wrong in ({}, {"resume": True, "adapter": "another"}):
        with pytest.raises(ConfigError, match="`output`"):
            write(path, NAMES, **wrong)
    path.write_bytes(b"something else\n" + before)
    with pytest.raises(ConfigError, match="`output`"):
        write(path, NAMES, resume=True)


@pytest.mark.parametrize("separators", [(",", ":"), (",  ", ":  ")])
def test_lines_that_another_program_wrote_anew_stay_whole(tmp_path, separators):
    path = tmp_path / "results.jsonl"
    write(path, NAMES[:3])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row, separators=separators) + "\n" for row in rows))
    assert write(path, NAMES, resume=True)[1] == NAMES[3:]
    assert files_in(path) == NAMES


@of_lines
def test_rows_are_there_before_the_end(tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    stream = ResultFile.prepare(path, "0").written(NAMES, as_row)
    next(stream), next(stream)
    assert files_in(path)[:1] == NAMES[:1]
    stream.close()
    assert len(files_in(path)) == 2


@packed
@pytest.mark.parametrize("cut", [0, 1, 30])
def test_a_file_written_at_the_end_is_whole_or_not_there_and_goes_on(tmp_path, suffix, cut):
    names = NAMES
    write(tmp_path / f"whole{suffix}", names)
    path = tmp_path / f"results{suffix}"
    stream = ResultFile.prepare(path, "0123456789abcdef").written(names, as_row)
    next(stream), next(stream)
    stream.close()
    assert not path.exists()
    with pytest.raises(ConfigError, match="`output`"):
        write(path, names)
    (lines,) = set(tmp_path.iterdir()) - {tmp_path / f"whole{suffix}"}
    lines.write_bytes(lines.read_bytes()[: lines.stat().st_size - cut])
    _, todo = write(path, names, resume=True)
    assert todo == names[1 if cut else 2 :]
    assert path.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert not lines.exists()


@packed
def test_a_finished_file_goes_on_with_more_shapes(tmp_path, suffix):
    names = NAMES
    write(tmp_path / f"whole{suffix}", names)
    path = tmp_path / f"results{suffix}"
    write(path, names[:4])
    assert write(path, names[:4], resume=True)[1] == []
    assert write(path, names, resume=True)[1] == names[4:]
    assert path.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("name", ["results", "results.txt", "folder/results.xlsx"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"`output`.*\.parquet"):
        ResultFile.prepare(tmp_path / name, "0")


def test_parquet_has_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "results.parquet", NAMES)
    rows = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert [row["class"] for row in rows] == ["box"] * 4 + [None]
    assert rows[0]["ranking"] == [{"class": "box", "probability": 0.5}]
    assert rows[1]["file"] == NAMES[1]


def test_parquet_needs_a_library(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pointpeft\[parquet\]"):
        ResultFile.prepare(tmp_path / "results.parquet", "0")
