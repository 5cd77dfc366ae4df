"""Files made ready one after the other, by this process or by others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import InputTransform, RawShape, read_shape
from pointpeft.data.chunks import default_workers, stream_chunks
from pointpeft.data.streaming import stream_files

TRANSFORM = InputTransform(num_points=32)


class Fatal(InputTransform):
    """Preparing some files ends the process, or takes more memory than there is."""

    def prepare_inputs(self, shapes: list[RawShape]):
        for name in (Path(shape.source).stem for shape in shapes):
            if name == "3":
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "20":
                raise MemoryError
        return super().prepare_inputs(shapes)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Forty clouds of different sizes, of which two cannot be read."""
    generator, found = np.random.default_rng(0), []
    for number in range(40):
        found.append(tmp_path / f"{number}.npy")
        if number == 7:
            found[-1].write_text("no array")
        elif number != 33:
            np.save(found[-1], generator.normal(size=(60 + number % 3, 3)))
    return found


def test_order_and_clouds_are_those_of_one_file_at_a_time(files: list[Path]) -> None:
    ready = list(stream_files(files, TRANSFORM))
    assert [one.file for one in ready] == list(map(str, files))
    assert [number for number, one in enumerate(ready) if one.error] == [7, 33]
    for file, one in zip(files, ready, strict=True):
        assert (one.points is None) == (one.error is not None)
        if one.points is not None:
            assert np.array_equal(one.points, TRANSFORM.prepare(read_shape(file))[:32])


def test_other_processes_find_the_same(files: list[Path]) -> None:
    here, there = (list(stream_files(files, TRANSFORM, workers=n)) for n in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert (one.file, one.warnings, one.error) == (other.file, other.warnings, other.error)
        assert np.array_equal(one.points, other.points)


def test_a_file_that_ends_its_process_is_an_error_of_its_own(
    files: list[Path], new_processes
) -> None:
    expected = list(stream_files(files, TRANSFORM))
    found = list(stream_files(files, Fatal(num_points=32), workers=2))
    assert [one.file for one in found] == [one.file for one in expected]
    lost = [n for n, one in enumerate(found) if one.error and "ended the process" in one.error]
    assert lost == [3, 20]
    assert all(str(files[number]) in str(found[number].error) for number in lost)
    for number in {*range(40)} - {*lost}:
        assert found[number].error == expected[number].error
        assert np.array_equal(found[number].points, expected[number].points)
    assert not new_processes()


def fail(items: list[int]) -> list[int]:
    raise ZeroDivisionError


def test_an_error_that_nobody_foresaw_is_that_of_the_process(new_processes) -> None:
    with pytest.raises(ZeroDivisionError):
        list(stream_chunks(fail, range(3), lambda item, reason: item, workers=1))
    assert not new_processes()


def test_who_stops_early_leaves_no_process(files: list[Path], new_processes) -> None:
    stream = stream_files(files, TRANSFORM, workers=2)
    next(stream)
    stream.close()
    assert not new_processes()


def test_a_script_that_begins_itself_again_is_told(files: list[Path], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pointpeft.data import InputTransform\n"
        "from pointpeft.data.streaming import stream_files\n"
        f"print(list(stream_files([{str(files[0])!r}], InputTransform(32), workers=1)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "`workers`" in done.stderr.splitlines()[-1]


def test_files_are_read_when_they_are_asked_for(files: list[Path]) -> None:
    stream = stream_files(files, TRANSFORM)
    next(stream)
    files[-1].unlink()
    assert list(stream)[-1].error is not None


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 0), (4, 4), (64, 8)])
def test_few_files_and_few_cores_start_no_process(monkeypatch, cores: int, workers: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert default_workers(3) == 0
    assert default_workers(100_000) == workers
