"""One process at a time writes an output, and a lock ends with its process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pointpeft.errors import ConfigError
from pointpeft.output_lock import locked

HOLD = """
import sys
from pointpeft.output_lock import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    output = tmp_path / "results.csv"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match="`output`"), locked(output):
            pass
        with pytest.raises(ConfigError, match="`output`"), locked(tmp_path / "x/../results.csv"):
            pass
        with locked(tmp_path / "others.csv"):
            pass
        other.kill()
        other.wait()
    with locked(output):
        output.touch()
    with locked(output):
        pass
    assert list(tmp_path.iterdir()) == [output]


def test_a_folder_stays_where_something_was_written(tmp_path: Path) -> None:
    with locked(tmp_path / "new/one/file.csv"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "new/one/file.csv"):
        (tmp_path / "new/file.txt").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "file.txt"]


@contextmanager
def without_new_files(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """As in a folder that may not be written; root may write everywhere."""
    opened, access = os.open, os.access

    def refuse(path: str | Path, flags: int, *more: int) -> int:
        if flags & os.O_CREAT and Path(path).parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        patch.setattr(os, "access", lambda path, mode: path != folder and access(path, mode))
        yield


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_where_no_file_can_be_made_the_output_itself_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    output = tmp_path / "results"
    make(output)  # type: ignore[operator]
    with without_new_files(monkeypatch, tmp_path):
        with locked(output), pytest.raises(ConfigError, match="`output`"), locked(output):
            pass
        with locked(output):
            assert list(tmp_path.rglob("*")) == [output]
        with pytest.raises(ConfigError, match="`output`"), locked(tmp_path / "new"):
            pass
    assert list(tmp_path.rglob("*")) == [output]


def test_names_that_leave_no_room_for_a_lock(tmp_path: Path) -> None:
    output = tmp_path / ("x" * 252)
    with locked(output):
        output.touch()
    with locked(output), pytest.raises(ConfigError, match="`output`"), locked(output):
        pass
    with locked("/"), locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("name", ["file/results.csv", "file/new/results.csv"])
def test_a_file_is_no_folder_for_an_output(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="`output`"), locked(tmp_path / name):
        pass


def test_a_new_folder_that_another_process_takes_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened, taken = tmp_path / "new/one", os.open, []

    def take_away(path: str | Path, flags: int, *more: int) -> int:
        if len(taken) < 3:
            taken.append(path)
            folder.rmdir()
        return opened(path, flags, *more)

    monkeypatch.setattr(os, "open", take_away)
    with locked(folder / "a.csv"):
        (folder / "a.csv").touch()
    assert len(taken) == 3
    assert list(folder.iterdir()) == [folder / "a.csv"]


def test_without_an_output_nothing_is_locked() -> None:
    with locked(None), locked(None):
        pass
