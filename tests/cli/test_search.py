"""``pointpeft embed`` and ``pointpeft search``."""

import json
import re

import numpy as np
import pytest

import pointpeft as pp
from tests.cli.conftest import run
from tests.training.support import CLASSES


@pytest.fixture(scope="module")
def index(meshes, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "features.npz"
    result = run("embed", meshes, "--output", path, "--device", "cpu")
    assert result.code == 0, result.err
    return path


def test_embed_says_what_was_written(index, meshes, tmp_path):
    path = tmp_path / "one.npz"
    result = run("embed", meshes / "box", "--output", path)
    assert result.code == 0, result.err
    stored = pp.Index.load(path)
    assert f"8 shapes, 192 channels each: {path}" in result.text
    assert stored.model.weights[:16] in result.out


def test_embed_of_a_folder_without_shapes_asks_for_no_classes(tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("embed", tmp_path / "empty", "--output", tmp_path / "f.npz")
    assert result.code == 1
    assert str(tmp_path / "empty") in result.err
    assert ".off" in result.err
    assert "<class>" not in result.err


def test_search_prints_the_nearest_of_each_query(index, meshes):
    result = run(
        "search", meshes / "box/box_03.off", meshes / "torus", "--index", index, "--top", 2
    )
    assert result.code == 0, result.err
    assert "box/box_03.off" in result.out
    assert result.out.count("1.0000") == 9


def test_json_holds_ids_classes_and_similarities(index, meshes):
    query = meshes / "sphere/sphere_01.off"
    result = run("search", query, "--index", index, "--top", 3, "--json")
    (found,) = json.loads(result.out)
    assert (found["query"], found["error"]) == (str(query), None)
    first, *others = found["neighbours"]
    assert first == {"id": "sphere/sphere_01.off", "class": "sphere", "similarity": 1.0}
    assert len(others) == 2
    assert all(one["similarity"] <= 1 and one["class"] in CLASSES for one in others)


def test_unreadable_files_are_listed_and_end_with_1(index, meshes, tmp_path):
    bad = tmp_path / "bad.obj"
    bad.write_text("nothing")
    embedded = run("embed", bad, meshes / "box/box_00.off", "--output", tmp_path / "f.npz")
    assert embedded.code == 1
    assert "bad.obj" in embedded.err
    assert len(pp.Index.load(tmp_path / "f.npz")) == 1
    files = ["search", bad, meshes / "box/box_00.off", "--index", index]
    assert (run(*files).code, "bad.obj" in run(*files).err) == (1, True)
    values = json.loads(run(*files, "--json").out)
    assert [one["error"] is None for one in values] == [True, False]


def test_page_shows_every_shape_and_says_which_are_gone(index, meshes, tmp_path):
    copy = tmp_path / "meshes"
    (copy / "odd <b>").mkdir(parents=True)
    for place in range(3):
        (copy / f"odd <b>/{place}.off").write_bytes((meshes / f"box/box_0{place}.off").read_bytes())
    assert run("embed", copy, "--output", tmp_path / "f.npz").code == 0
    (copy / "odd <b>/1.off").unlink()
    page = tmp_path / "sheet.html"
    query = meshes / "box/box_00.off"
    result = run("search", query, "--index", tmp_path / "f.npz", "--html", page)
    assert result.code == 0, result.err
    assert str(page) in result.out
    text = page.read_text()
    assert text.count("<svg") == 3
    assert text.count('class="gone"') == 1
    assert "<b>" not in text
    assert not re.search(r"<script|https?://|src=", text)


def test_duplicates_are_groups_of_the_same_shape(meshes, tmp_path):
    folder = tmp_path / "twice"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.off").write_bytes((meshes / "box/box_00.off").read_bytes())
        (folder / name / "2.off").write_bytes(
            (meshes / f"torus/torus_0{len(name)}.off").read_bytes()
        )
    (folder / "a/3.off").write_bytes((meshes / "sphere/sphere_00.off").read_bytes())
    path = tmp_path / "f.npz"
    assert run("embed", folder, "--output", path).code == 0
    result = run("search", "--index", path, "--duplicates", "--json", "--html", tmp_path / "d.html")
    groups = json.loads(result.out)
    assert [[one["id"] for one in group] for group in groups] == [
        ["a/1.off", "b/1.off"], ["a/2.off", "b/2.off"],
    ]  # fmt: skip
    assert (tmp_path / "d.html").read_text().count("<svg") == 4
    shown = run("search", "--index", path, "--duplicates")
    assert "2 groups of near-duplicates among 5 shapes" in shown.text


def test_no_duplicates_is_an_answer(index):
    result = run("search", "--index", index, "--duplicates", "--threshold", 1)
    assert (result.code, "0 groups" in result.text) == (0, True)
    assert run("search", "--index", index, "--duplicates", "--json", "--threshold", 1).out == "[]\n"


def test_an_adapter_embeds_and_searches(trained, meshes, tmp_path):
    path = tmp_path / "f.npz"
    assert run("embed", meshes, "--adapter", trained, "--output", path).code == 0
    query = ["search", meshes / "torus/torus_02.off", "--index", path, "--top", 1, "--json"]
    without = run(*query)
    assert (without.code, "--adapter" in without.err) == (1, True)
    result = run(*query, "--adapter", trained)
    (found,) = json.loads(result.out)
    assert found["neighbours"][0]["id"] == "torus/torus_02.off"


def test_other_weights_are_refused(index, meshes, weights):
    result = run("search", meshes, "--index", index, "--checkpoint", weights)
    assert result.code == 1
    assert "not a foreseen error" not in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--index", "none.npz", "x.obj"], "none.npz"),
        (["--index", "INDEX"], "--duplicates"),
        (["--index", "INDEX", "--duplicates", "x.obj"], "--duplicates"),
        (["--index", "INDEX", "--duplicates", "--threshold", "2"], "--threshold"),
        (["--index", "INDEX", "MESHES", "--top", "0"], "--top"),
        (["--index", "INDEX", "nowhere"], "nowhere"),
        (["--index", "ARCHIVE", "--duplicates"], "shapes.npz"),
    ],
)
def test_what_cannot_be_is_refused(index, meshes, archive, arguments, words):
    places = {"INDEX": index, "MESHES": meshes, "ARCHIVE": archive}
    result = run("search", *(places.get(each, each) for each in arguments))
    assert result.code == 1
    assert words in result.err
    assert "not a foreseen error" not in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "f.csv"], "--output"),
        (["--output", "f.npz", "--batch-size", "0"], "--batch-size"),
        (["--output", "f.npz", "--model", "point_mae"], "point_mae"),
        (["--output", "f.npz", "--model", "point_mae", "--adapter", "x"], "--model"),
        (["--output", "f.npz", "--adapter", "x"], "adapter"),
        (["--output", "f.npz", "--up-axis", "w"], "up_axis"),
    ],
)
def test_embed_refuses_before_it_writes(meshes, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = run("embed", meshes, *arguments)
    assert result.code == 1
    assert words in result.err
    assert "not a foreseen error" not in result.err
    assert not list(tmp_path.iterdir())


def test_features_are_of_the_whole_folder(index):
    stored = pp.Index.load(index)
    assert len(stored) == 32
    assert np.bincount(stored.labels).tolist() == [8, 8, 8, 8]
