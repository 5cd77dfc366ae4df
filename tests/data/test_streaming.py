"""Files made ready one after the other, by this process or by others."""

from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import InputTransform, read_shape
from pointpeft.data.streaming import default_workers, stream_files

TRANSFORM = InputTransform(num_points=32)


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
