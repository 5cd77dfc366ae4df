"""Among very many features FAISS finds what comparing with all of them does, but for a few."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from pointpeft.data import InputTransform
from pointpeft.measure import approximate
from pointpeft.measure.feature_index import FeatureModel, Index
from pointpeft.measure.nearest import nearest
from pointpeft.measure.shape_sources import ShapeSource


@pytest.fixture
def index(monkeypatch):
    """More shapes than are compared one by one."""
    monkeypatch.setattr(approximate, "COMPARED_ONE_BY_ONE", 100)
    rows = np.random.default_rng(0).normal(size=(5000, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = tuple(f"{place}.obj" for place in range(5000))
    labels = np.full(5000, -1)
    model = FeatureModel("x", {}, "0" * 64, InputTransform())
    return Index(rows.astype(np.float16), ids, labels, (), model, ShapeSource("/none"))


def test_nearly_all_neighbours_are_found(index):
    pytest.importorskip("faiss")
    found = index.search(index.features[:100], 10)
    expected = nearest(index.features[:100], index.features, 10)
    assert np.array_equal(found.places[:, 0], np.arange(100))
    shared = [len(set(a) & set(b)) for a, b in zip(found.places, expected.places, strict=True)]
    assert np.mean(shared) > 8
    assert (found.similarities <= expected.similarities + 1e-3).all()


def test_all_are_found_where_all_are_asked_for(index):
    pytest.importorskip("faiss")
    found = index.search(index.features[:2], 5000)
    assert np.array_equal(np.sort(found.places[0]), np.arange(5000))


def test_cells_are_kept_beside_the_file_until_it_changes(index, tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    path = tmp_path / "f.npz"
    index.save(path)
    expected = search_in(path)
    kept = tmp_path / "f.npz.faiss"
    assert kept.is_file()
    with monkeypatch.context() as patch:
        patch.setattr(approximate, "_made", None)  # so it would fail
        assert np.array_equal(search_in(path), expected)
    kept.write_bytes(b"damaged")
    assert np.array_equal(search_in(path), expected)


def test_cells_of_another_file_under_this_name_are_not_taken(index, tmp_path):
    """It may be older than they are."""
    pytest.importorskip("faiss")
    other = replace(index, features=index.features[::-1].copy())
    other.save(tmp_path / "other.npz")
    expected = search_in(tmp_path / "other.npz")
    index.save(tmp_path / "f.npz")
    search_in(tmp_path / "f.npz")
    (tmp_path / "other.npz").replace(tmp_path / "f.npz")
    assert np.array_equal(search_in(tmp_path / "f.npz"), expected)


def search_in(path):
    loaded = Index.load(path)
    return loaded.search(loaded.features[:5], 3).places


def test_without_faiss_the_search_is_exact_and_says_so(index, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "faiss", None)
    found = index.search(index.features[:3], 4)
    assert np.array_equal(found.places, nearest(index.features[:3], index.features, 4).places)
    assert "pointpeft[index]" in caplog.text
