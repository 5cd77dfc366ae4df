"""Shards: whole or absent, what other sources give, and what is damaged is named."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import InputTransform, load_shapes, load_unlabelled
from pointpeft.data.shards import (
    ShardIndex,
    is_sharded,
    load_sharded,
    shard_writer,
    verify_shards,
    write_shards,
)
from pointpeft.errors import ConfigError, DataError
from pointpeft.output_lock import locked

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
TRANSFORM = InputTransform(num_points=32)


def shards_of(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("*.parquet"))]


def write(source: object, folder: Path, **how: object) -> ShardIndex:
    return write_shards(source, folder, **{"num_points": 32, "shard_size": 4, "workers": 0} | how)


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_shards_give_the_shapes_of_their_source(mesh_folder, tmp_path, fraction):
    """The same clouds, the same ones held out, known by the same marks."""
    index = write(mesh_folder, tmp_path / "shards")
    assert [shard.shapes for shard in index.shards] == [4, 4, 4, 3]
    sharded = load_sharded(tmp_path / "shards", TRANSFORM, val_fraction=fraction)
    loaded = load_unlabelled(mesh_folder, TRANSFORM, num_stored=32, val_fraction=fraction)
    assert len(sharded) == len(loaded) == (15 if fraction == 0 else 9)
    assert sharded.marks() == loaded.marks()
    points, problems = sharded.read(range(len(sharded)), 32)
    assert not problems
    assert np.array_equal(points, loaded.points)
    assert [name.partition(": ")[2] for name in sharded.names(range(len(sharded)))] == list(
        loaded.ids
    )


def test_stated_splits_are_left_out(tmp_path, cloud):
    points = np.stack([cloud + place for place in range(5)])
    split = ["train", "val", "test", "train", "train"]
    np.savez(tmp_path / "set.npz", points=points, split=split)
    write(tmp_path / "set.npz", tmp_path / "shards")
    assert load_sharded(tmp_path / "shards", TRANSFORM).numbers.tolist() == [0, 3, 4]


@pytest.mark.parametrize("stated", [(), ("val",), ("val", "test")])
def test_pretraining_sees_what_finetuning_trains_on(tmp_path, cloud, stated):
    """From shards as from an array, whichever parts the data states."""
    points = cloud + np.random.default_rng(0).normal(0, 0.01, (40, *cloud.shape))
    split = np.resize(["train", "train", *stated], 40)
    about = {"label": np.arange(40) // 14, "names": ["a", "b", "c"]}
    np.savez(tmp_path / "set.npz", points=points, **about, **({"split": split} if stated else {}))
    write(tmp_path / "set.npz", tmp_path / "shards")
    tuned = load_shapes(tmp_path / "set.npz", TRANSFORM)
    assert min(len(part) for part in (tuned.train, tuned.val, tuned.test)) > 0
    for seen in (
        load_unlabelled(tmp_path / "set.npz", TRANSFORM),
        load_sharded(tmp_path / "shards", TRANSFORM),
    ):
        assert sorted(seen.digests) == sorted(tuned.train.digests)


@pytest.mark.parametrize("split", [True, False], ids=["stated", "cut"])
@pytest.mark.parametrize("harm", ["missing", "marks"])
def test_what_is_held_out_stays_held_out_where_a_shard_is_lost(tmp_path, cloud, split, harm):
    rng = np.random.default_rng(0)
    points = cloud + rng.normal(0, 0.01, (40, *cloud.shape))
    stated = {"split": np.resize(["train", "val", "train", "test"], 40)} if split else {}
    np.savez(
        tmp_path / "set.npz", points=points, label=np.arange(40) % 2, names=["a", "b"], **stated
    )
    folder = tmp_path / "shards"
    write(tmp_path / "set.npz", folder, shard_size=8)
    whole = load_sharded(folder, TRANSFORM)
    assert 0 < len(whole) < 40
    lost = folder / "shard-00001.parquet"
    if harm == "missing":
        lost.unlink()
    else:
        content = bytearray(lost.read_bytes())
        content[content.index(whole.digests[len(whole) // 4].encode())] ^= 1
        lost.write_bytes(content)
    after = load_sharded(folder, TRANSFORM)
    assert [problem.item for problem in after.problems] == ["shard-00001.parquet"]
    assert np.array_equal(after.numbers, whole.numbers)
    assert after.digests == whole.digests
    (folder / "marks.parquet").write_bytes(b"damaged")
    assert "marks.parquet" in [problem.item for problem in verify_shards(folder)]
    with pytest.raises(DataError, match=r"shard-00001.*marks\.parquet"):
        load_sharded(folder, TRANSFORM)


def test_nothing_is_read_of_nothing(tmp_path):
    write("procedural", tmp_path / "shards", procedural=3)
    shapes = load_sharded(tmp_path / "shards", TRANSFORM)
    points, problems = shapes.read([], 32)
    assert points.shape == (0, 32, 3)
    assert problems == shapes.names([]) == []


@pytest.mark.parametrize("source", ["homeobjects", "procedural"])
def test_embedded_and_procedural_shapes(tmp_path, source):
    count = 600 if source == "procedural" else None
    index = write(source, tmp_path / "a", shard_size=512, procedural=count)
    shapes = load_sharded(tmp_path / "a", TRANSFORM, val_fraction=0.0)
    assert index.total == index.shapes == (count or 818)
    assert len(shapes) == sum(map(len, shapes.blocks()))
    assert max(map(len, shapes.blocks())) <= 256
    points, _ = shapes.read([599, 0, 300], 16)
    assert points.shape == (3, 16, 3)
    assert np.isfinite(points).all()


def test_other_processes_write_the_same(mesh_folder, tmp_path):
    for workers in (0, 2):
        write(mesh_folder, tmp_path / str(workers), workers=workers)
    assert shards_of(tmp_path / "0") == shards_of(tmp_path / "2")


def test_names_that_are_no_text_are_written_out(mesh_folder, tmp_path):
    file = next((mesh_folder / "box").iterdir())
    try:
        file.rename(file.with_name(os.fsdecode(b"b\xf6x") + file.suffix))
    except OSError:
        pytest.skip("a file system that takes text alone")
    write(mesh_folder, tmp_path / "shards")
    sharded = load_sharded(tmp_path / "shards", TRANSFORM, val_fraction=0.0)
    assert any("\\udcf6x" in name for name in sharded.names(range(15)))
    assert write(mesh_folder, tmp_path / "shards", resume=True).shapes == 15


def test_one_process_at_a_time_writes(mesh_folder, tmp_path):
    with locked(tmp_path / "shards"), pytest.raises(ConfigError, match="`output`"):
        write(mesh_folder, tmp_path / "shards")
    assert write(mesh_folder, tmp_path / "shards").shapes == 15


@pytest.fixture
def stopped(mesh_folder, tmp_path, monkeypatch):
    """A folder whose writing ended in the third shard as by a full disk."""
    blocks = []
    flush = shard_writer._BlockWriter._flush

    def full(self):
        blocks.append(self)
        if len(blocks) == 3:
            raise OSError(28, "No space left on device")
        flush(self)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer._BlockWriter, "_flush", full)
        with pytest.raises(OSError, match=r"cut.*No space.*resume"):
            write(mesh_folder, tmp_path / "cut")
    return tmp_path / "cut"


def test_a_shard_is_whole_or_absent(stopped):
    names = sorted(file.name for file in stopped.iterdir())
    assert names == ["shard-00000.parquet", "shard-00001.parquet", "shards.json"]
    index = ShardIndex.read(stopped)
    assert (index.listed, index.shapes, index.complete) == (8, 8, False)
    assert [problem.item for problem in verify_shards(stopped)] == ["shards.json"]
    with pytest.raises(DataError, match="--resume"):
        load_sharded(stopped, TRANSFORM)


def test_writing_goes_on_to_the_same_shards(stopped, mesh_folder, tmp_path):
    done = []
    write(mesh_folder, stopped, resume=True, progress=lambda *of: done.append(of))
    write(mesh_folder, tmp_path / "whole")
    assert shards_of(stopped) == shards_of(tmp_path / "whole")
    assert done[0] == (9, 15)
    assert (stopped / "shards.json").read_text() == (
        tmp_path / "whole/shards.json"
    ).read_text().replace("whole", "cut")


@pytest.mark.parametrize(
    ("how", "named"), [({"seed": 1}, "seed"), ({"num_points": 16}, "transform")]
)
def test_it_does_not_go_on_in_another_way(stopped, mesh_folder, how, named):
    with pytest.raises(ConfigError, match=named):
        write(mesh_folder, stopped, resume=True, **how)


def test_it_does_not_go_on_with_other_shapes(stopped, mesh_folder):
    next(mesh_folder.rglob("*.off")).unlink()
    with pytest.raises(ConfigError, match="listing"):
        write(mesh_folder, stopped, resume=True)


def test_it_does_not_go_on_behind_a_missing_shard(stopped, mesh_folder):
    (stopped / "shard-00001.parquet").unlink()
    with pytest.raises(DataError, match="shard-00001"):
        write(mesh_folder, stopped, resume=True)


@pytest.mark.parametrize("content", ["", "nonsense"])
def test_a_bad_file_is_left_out_and_named_or_ends_it(mesh_folder, tmp_path, content):
    (mesh_folder / "box/box_02.off").write_text(content)
    index = write(mesh_folder, tmp_path / "skipped")
    assert [problem.item for problem in index.problems] == ["box/box_02.off"]
    assert (index.shapes, index.listed) == (14, 15)
    assert "box_02" in " ".join(load_sharded(tmp_path / "skipped", TRANSFORM).notes)
    with pytest.raises(DataError, match="box_02"):
        write(mesh_folder, tmp_path / "refused", on_error="refuse")
    repaired = write(mesh_folder, tmp_path / "refused", resume=True)
    assert repaired.shapes == 14


def test_a_folder_in_use_is_not_written_into(mesh_folder, tmp_path):
    write(mesh_folder, tmp_path / "a")
    for folder, named in ((tmp_path / "a", "resume"), (mesh_folder, "empty")):
        with pytest.raises(ConfigError, match=named):
            write(mesh_folder, folder)
    with pytest.raises(ConfigError, match="resume"):
        write(mesh_folder, tmp_path / "b", resume=True)


@pytest.mark.parametrize(
    ("source", "how", "named"),
    [
        ("procedural", {}, "procedural"),
        ("homeobjects", {"procedural": 3}, "procedural"),
        ("homeobjects", {"shard_size": 0}, "shard_size"),
        ("homeobjects", {"num_points": 0}, "num_points"),
        ("homeobjects", {"on_error": "stop"}, "on_error"),
    ],
)
def test_settings_that_cannot_be(tmp_path, source, how, named):
    with pytest.raises(ConfigError, match=named):
        write(source, tmp_path / "a", **how)
    assert not (tmp_path / "a").exists()


@pytest.fixture
def sharded(tmp_path):
    """Three shards of procedural shapes, of two blocks each."""
    write("procedural", tmp_path / "shards", procedural=900, shard_size=300)
    return tmp_path / "shards"


def damage(file: Path, last: str = "procedural/0/000000255") -> None:
    """Turn some bits in the points of a block, behind the name of its last shape."""
    content = bytearray(file.read_bytes())
    place = content.index(last.encode()) + 40_000
    content[place] ^= 0xFF
    file.write_bytes(content)


def test_damage_is_found_and_named(sharded):
    assert list(verify_shards(sharded)) == []
    damage(sharded / "shard-00000.parquet")
    (sharded / "shard-00002.parquet").unlink()
    found = [problem.item for problem in verify_shards(sharded)]
    assert found == ["shard-00000.parquet", "shard-00002.parquet"]


def test_shapes_of_a_damaged_block_are_replaced_by_others_that_are_asked_for(sharded):
    damage(sharded / "shard-00000.parquet")
    shapes = load_sharded(sharded, TRANSFORM)
    points, problems = shapes.read([10, 270, 20, 800], 32)
    (problem,) = problems
    for named in ("shard-00000", "rows 0 to 255", "procedural/0/000000000"):
        assert named in problem
    good, none = shapes.read([270, 800], 32)
    assert not none
    assert np.array_equal(points[[1, 3]], good)
    assert np.array_equal(points[[0, 2]], good)
    with pytest.raises(DataError, match="shard-00000"):
        shapes.read([10, 20], 32)


SIZED = pa.list_(pa.float32(), 96)


@pytest.mark.parametrize(
    ("points", "kind", "named"),
    [
        (np.ones(93), pa.list_(pa.float32(), 93), "93"),
        (np.ones(96), pa.list_(pa.float32()), "96"),
        (1.0, pa.float32(), "float"),
        (np.r_[np.ones(95), np.nan], SIZED, "finite"),
        (None, SIZED, "missing"),
    ],
    ids=["fewer", "of any number", "no lists", "not finite", "none"],
)
def test_other_points_than_were_written_are_damage(sharded, points, kind, named):
    file = sharded / "shard-00000.parquet"
    table = pq.read_table(file)
    place = table.column_names.index("points")
    lists = pa.array([points] * len(table), kind)
    pq.write_table(table.set_column(place, "points", lists), file, row_group_size=256)
    read, problems = load_sharded(sharded, TRANSFORM).read([10, 800], 32)
    (problem,) = problems
    assert "shard-00000" in problem
    assert named in problem
    assert np.array_equal(read[0], read[1])


def test_lost_marks_are_found(sharded):
    (sharded / "marks.parquet").unlink()
    assert [problem.item for problem in verify_shards(sharded)] == ["marks.parquet"]


def test_a_missing_shard_is_refused_or_left_out(sharded):
    (sharded / "shard-00001.parquet").unlink()
    with pytest.raises(DataError, match="shard-00001"):
        load_sharded(sharded, TRANSFORM, on_error="refuse")
    shapes = load_sharded(sharded, TRANSFORM)
    assert [problem.item for problem in shapes.problems] == ["shard-00001.parquet"]
    assert len(shapes) == 900
    assert shapes.names([400]) == ["shard-00001.parquet: row 100"]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (InputTransform(33), r"data\.num_points"),
        (InputTransform(32, normalize="none"), r"data\.normalize"),
        (InputTransform(32, up_axis="z"), r"data\.up_axis"),
    ],
)
def test_shards_that_were_prepared_in_another_way(sharded, asked, named):
    with pytest.raises(ConfigError, match=named):
        load_sharded(sharded, asked)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"shapes": 1},
        {"shards": [{"file": "../a"}]},
        {"listing": ...},
        {"block": 0},
        {"block": "x"},
        {"total": -1},
        {"total": 1},
    ],
)
def test_an_index_that_is_not_right(sharded, change):
    content = json.loads((sharded / "shards.json").read_text())
    content |= change
    content = {key: value for key, value in content.items() if value is not ...}
    (sharded / "shards.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"shards\.json"):
        ShardIndex.read(sharded)


def test_other_uses_of_shards_are_refused(sharded, mesh_folder):
    assert is_sharded(sharded)
    assert not is_sharded(mesh_folder)
    with pytest.raises(DataError, match="pre-training"):
        load_unlabelled(sharded, TRANSFORM)


def test_any_reader_of_parquet_can_read_them(sharded):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(sharded / "shard-00000.parquet")
    assert table.column_names == ["id", "class", "split", "digest", "object", "points"]
    assert len(table["points"][0].as_py()) == 96


def test_without_pyarrow_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pointpeft\[parquet\]"):
        write("homeobjects", tmp_path / "a")
