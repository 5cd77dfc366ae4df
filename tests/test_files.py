"""A file is either the old one or the new one, whatever happens while it is written."""

import errno
import json
import math
from pathlib import Path

import pytest

from pointpeft.files import replacing, shown_path, write_json


def test_new_content_takes_the_name(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError()]
)
def test_failure_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_before_anything_was_written(tmp_path):
    with pytest.raises(ValueError, match="early"), replacing(tmp_path / "file.txt"):
        raise ValueError("early")
    assert list(tmp_path.iterdir()) == []


def test_temporary_file_is_beside_the_target(tmp_path):
    """So that the last step is a rename within one file system."""
    with replacing(tmp_path / "file.txt") as temporary:
        assert temporary.parent == tmp_path
        temporary.touch()


def test_json_round_trip(tmp_path):
    content = {"a": 1, "b": [1.5, None], "c": {"d": "é"}}
    write_json(tmp_path / "file.json", content)
    assert json.loads((tmp_path / "file.json").read_text()) == content


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": Path("x")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_json_does_not_have_become_null(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": math.nan, "b": [1.5, math.inf, {"c": -math.inf}], "d": (0.5, "NaN")})
    read = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [1.5, None, {"c": None}], "d": [0.5, "NaN"]}


def test_a_path_is_shown_from_the_working_folder_or_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown_path(tmp_path / "here/runs/a.pth") == shown_path("runs/a.pth") == "runs/a.pth"
    assert shown_path(tmp_path / "there/a.pth") == "a.pth"
