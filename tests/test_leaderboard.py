"""The leaderboard is what the results say, and a file more is a row more."""

import json
import runpy
from pathlib import Path

import pytest

from tests.measure.test_comparison_rows import row

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script():
    """What the script that writes the page defines."""
    return runpy.run_path(str(ROOT / "scripts/write_leaderboard.py"))


def test_the_page_is_up_to_date(script):
    assert (ROOT / "docs/leaderboard.md").read_text() == script["page"](script["RESULTS"])


def test_a_file_more_is_a_row_more(script, tmp_path):
    for number, method in enumerate(("svm", "lora", "mine")):
        made = row(method, 0.2 + 0.3 * number)
        (tmp_path / f"{method}.json").write_text(json.dumps(made))
        page = script["page"](tmp_path)
        assert page.count("\n| ") == 2 + number
        assert f"| {method} | m | 01234567 | {100 * made['test_score']:.1f}" in page


def test_other_test_shapes_are_another_table(script, tmp_path):
    for method in ("svm", "lora"):
        made = row(method, 0.5) | {"test_shapes": method}
        (tmp_path / f"{method}.json").write_text(json.dumps(made))
    assert script["page"](tmp_path).count("\n## ") == 2
