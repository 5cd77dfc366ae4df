"""Shards made by actors of a real Ray, one of which is killed, are those of a single process."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from pointpeft.errors import CheckpointError
from pointpeft.measure.corpus import Features, Work, make_corpus
from tests.cli.conftest import meshes, run, trained  # noqa: F401 - shared fixtures
from tests.measure.fatal_files import FATAL, FatalFile
from tests.training.conftest import light_runs, weights  # noqa: F401 - shared fixtures

pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow  # starting Ray and waiting for its actors takes half a minute


@pytest.fixture(scope="module", autouse=True)
def session():
    """Two cores, so that there are two actors, and what passes for a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else actors wait for all other work
        ray.init(
            num_cpus=2, num_gpus=1, include_dashboard=False, object_store_memory=80 << 20,
            log_to_driver=False,
        )  # fmt: skip
        yield
        ray.shutdown()


@dataclass(frozen=True)
class Fatal:
    """Work whose process is killed, once, in the middle of the shard that holds a file."""

    work: Work
    file: str
    notes: Path

    def load(self, device):
        maker = self.work.load(device)
        make = maker.rows

        def rows(ready):
            (self.notes / f"{os.getpid()}").touch()
            for one in ready:
                if one.file.endswith(self.file) and not (self.notes / "killed").exists():
                    (self.notes / "killed").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                yield from make([one])

        maker.rows = rows
        return maker


def test_a_killed_actor_changes_no_row(meshes, weights, tmp_path):  # noqa: F811
    notes, seen = tmp_path / "notes", []
    notes.mkdir()
    (tmp_path / "bad.off").write_text("no mesh")
    sources = [meshes, tmp_path / "bad.off", tmp_path / "gone.off"]
    work = Fatal(Features(checkpoint=weights), "sphere_03.off", notes)
    made = make_corpus(
        work, sources, tmp_path / "ray", engine="ray", shard_size=3, device="cpu",
        progress=lambda *done: seen.append(done),
    )  # fmt: skip
    assert (made.files, made.failed) == (34, 2)
    assert (notes / "killed").exists()
    assert len(list(notes.iterdir())) >= 3  # the mark, the one that was killed, and another
    assert seen[-1] == (34, 34)
    work = Features(checkpoint=weights, batch_size=1)  # as above
    make_corpus(work, sources, tmp_path / "here", shard_size=3, device="cpu", workers=0)
    for shard in range(12):
        name = f"part-{shard:05d}.parquet"
        there, here = (parquet.read_table(tmp_path / each / name) for each in ("ray", "here"))
        assert there.to_pylist() == here.to_pylist()
    assert not list((tmp_path / "ray").glob("*.tmp"))


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_file_that_ends_every_actor_is_a_row(meshes, weights, tmp_path, device):  # noqa: F811
    """On a CPU actors read; for a GPU tasks read."""
    made = make_corpus(
        FatalFile(Features(checkpoint=weights)), [meshes / "box"], tmp_path / "ray",
        engine="ray", shard_size=4, device=device,
    )  # fmt: skip
    assert (made.files, made.failed) == (8, 1)
    rows = parquet.read_table(tmp_path / "ray").to_pylist()
    (lost,) = [row for row in rows if row["error"]]
    assert lost["id"] == FATAL
    assert "ended the process" in lost["error"]
    assert sum(row["feature"] is not None for row in rows) == 7
    assert not list((tmp_path / "ray").glob("*.tmp"))


@dataclass(frozen=True)
class OtherModel:
    """Work that is something else in every process."""

    work: Work

    def load(self, device):
        maker = self.work.load("cpu")
        maker.made_by = {**maker.made_by, "process": os.getpid()}
        return maker


def test_an_actor_with_another_model_refuses_to_work(meshes, weights, tmp_path):  # noqa: F811
    with pytest.raises(CheckpointError, match="another model"):
        make_corpus(
            OtherModel(Features(checkpoint=weights)), [meshes], tmp_path / "ray", engine="ray"
        )


def test_predict_takes_the_engine_and_goes_on(trained, meshes, tmp_path):  # noqa: F811
    there, here = tmp_path / "there", tmp_path / "here"
    command = ["predict", "--adapter", trained, meshes, "--shard-size", 8, "--device", "cpu"]
    assert run(*command, "--output", here).code == 0
    result = run(*command, "--output", there, "--engine", "ray")
    assert result.code == 0, result.err
    assert parquet.read_table(there).to_pylist() == parquet.read_table(here).to_pylist()
    times = {part: part.stat().st_mtime_ns for part in there.glob("part-*")}
    next(iter(times)).unlink()
    result = run(*command, "--output", there, "--engine", "ray", "--resume")
    assert "24 of them before" in result.out
    kept = list(times)[1:]
    assert [part.stat().st_mtime_ns for part in kept] == [times[part] for part in kept]
    assert parquet.read_table(there).to_pylist() == parquet.read_table(here).to_pylist()
