"""Files of features: whole or refused."""

import dataclasses
import sys

import numpy as np
import pytest

from pointpeft.data import feature_files
from pointpeft.data.feature_files import (
    StoredFeatures,
    check_target,
    read_features,
    write_features,
)
from pointpeft.errors import ConfigError, DataError


@pytest.fixture
def stored():
    features = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float16)
    ids = ("a/b.obj", "Stuhl ä.stl", "3", "4", "5")
    labels = np.array([0, 1, -1, 1, 0])
    return StoredFeatures(features, ids, labels, ("chair", "lamp"), {"model": {"name": "x"}})


@pytest.fixture(params=["npz", "parquet"])
def path(request, tmp_path):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / f"features.{request.param}"


def test_what_is_written_is_read(stored, path):
    write_features(path, stored)
    again = read_features(path)
    assert np.array_equal(again.features, stored.features)
    assert again.features.dtype == np.float16
    assert np.array_equal(again.labels, stored.labels)
    assert (again.ids, again.class_names) == (stored.ids, stored.class_names)
    assert again.metadata == stored.metadata


def test_names_that_are_no_text_do_not_end_the_writing(stored, path):
    odd = dataclasses.replace(stored, ids=("\udcff.obj", *stored.ids[1:]))
    write_features(path, odd)
    assert read_features(path).ids[1:] == stored.ids[1:]


def test_a_file_is_not_written_over(stored, path):
    path.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="output"):
        check_target(path)
    with pytest.raises(ConfigError, match="output"):
        write_features(path, stored)
    assert path.read_bytes() == b"mine"


def test_another_suffix_is_refused(stored, tmp_path):
    with pytest.raises(ConfigError, match=r"features\.csv"):
        write_features(tmp_path / "features.csv", stored)


def test_a_table_needs_no_code_of_ours(stored, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_features(tmp_path / "f.parquet", stored)
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["id", "class", "feature"]
    assert table["class"].to_pylist() == ["chair", "lamp", None, "lamp", "chair"]
    assert np.array_equal(table["feature"].to_pylist(), stored.features)


def test_parquet_without_pyarrow_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pointpeft\[parquet\]"):
        check_target(tmp_path / "f.parquet")


def test_a_missing_file_is_named(path):
    with pytest.raises(DataError, match=path.name):
        read_features(path)


@pytest.mark.parametrize("cut", [0, 100, -30])
def test_a_damaged_file_is_refused(stored, path, cut):
    write_features(path, stored)
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    with pytest.raises(DataError, match=path.name):
        read_features(path)


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.zeros((4, 3), np.float16)},
        {"features": np.zeros(5, np.float16)},
        {"features": np.zeros((5, 3), np.int64)},
        {"labels": np.array([0, 0, 0, 0, 2])},
        {"labels": np.zeros(5)},
        {"ids": np.array(["a"])},
        {"metadata": np.array("{")},
        {"metadata": np.array("[]")},
        {"metadata": None},
        {"features": None},
    ],
)
def test_arrays_that_do_not_fit_are_refused(stored, tmp_path, change):
    path = tmp_path / "f.npz"
    write_features(path, stored)
    with np.load(path) as arrays:
        changed = {**arrays, **change}
    np.savez(path, **{key: value for key, value in changed.items() if value is not None})
    with pytest.raises(DataError, match=r"f\.npz"):
        read_features(path)


def test_a_table_of_others_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"id": ["a"]}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"f\.parquet"):
        feature_files.read_features(tmp_path / "f.parquet")
