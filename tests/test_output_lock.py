"""One process at a time writes an output, and a lock ends with its process."""

import subprocess
import sys
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


def test_without_an_output_nothing_is_locked() -> None:
    with locked(None), locked(None):
        pass
