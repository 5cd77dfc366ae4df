"""How the package is built stays as it should be."""

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def house():
    """What the script that measures the code defines."""
    return runpy.run_path(str(ROOT / "scripts/house.py"))


def test_no_two_files_import_each_other(house):
    known = house["modules"]()
    graph = {name: house["imports"](path, known) for name, path in known.items()}
    assert graph["pointpeft.models.point_mae"] >= {"pointpeft.models.trunk"}
    assert house["circles"](graph) == []


def test_circles_are_found(house):
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e"}}
    assert house["circles"](graph) == [["a", "b", "c"], ["e"]]


def test_the_past_has_one_room(house):
    inside = {n for n in house["modules"]() if n.startswith("pointpeft.compat")}
    says = {n for n, path in house["modules"]().items() if house["says_published"](path)}
    assert says <= inside
    assert "pointpeft.compat.protocol" in says


def test_files_of_one_name_mean_one_thing(house):
    names = Counter(
        n.rpartition(".")[2] for n, p in house["modules"]().items() if p.name != "__init__.py"
    )
    pairs = {"pretraining", "protocol", "registry", "voting"}  # of ours, and of the papers' code
    assert {name for name, count in names.items() if count > 1} == pairs


def test_files_are_under_400_lines(house):
    long = {n: p for n, p in house["modules"]().items() if p.read_text().count("\n") > 400}
    assert not long


def test_the_files_that_a_newcomer_is_sent_to_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|md|yaml))`", text))
    lacking = {
        name
        for name in named
        if not any((place / name).is_file() for place in (ROOT, ROOT / "src/pointpeft"))
    }
    assert len(named) > 20
    assert not lacking
