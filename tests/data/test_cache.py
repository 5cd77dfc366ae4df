import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import InputTransform, ShapeData, load_shapes
from pointpeft.data.array_cache import cached_files, clear_cache, default_cache_dir
from pointpeft.data.splits import Item
from pointpeft.errors import ConfigError

SMALL = InputTransform(num_points=32)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the items that were read from their files."""
    seen: list[str] = []
    read = Item.read

    def counting(item: Item) -> object:
        seen.append(item.id)
        return read(item)

    monkeypatch.setattr(Item, "read", counting)
    return seen


def same(first: ShapeData, second: ShapeData) -> bool:
    return all(
        np.array_equal(getattr(first, part).points, getattr(second, part).points)
        and getattr(first, part).ids == getattr(second, part).ids
        for part in ("train", "val", "test")
    )


def files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_second_load_reads_nothing(
    mesh_folder: Path, private_cache: Path, reads: list[str]
) -> None:
    first = load_shapes(mesh_folder, SMALL)
    assert len(reads) == 15
    reads.clear()
    second = load_shapes(mesh_folder, SMALL)
    assert reads == []
    assert same(first, second)
    assert first.statistics == second.statistics
    assert len(files(private_cache)) == 15


def test_added_file_alone_is_prepared(
    mesh_folder: Path, reads: list[str], write_classes: Callable[..., Path]
) -> None:
    load_shapes(mesh_folder, SMALL)
    reads.clear()
    write_classes(mesh_folder, {"box": 1}, start=9)
    load_shapes(mesh_folder, SMALL)
    assert reads == ["box/box_09.off"]


def test_moved_file_is_still_known(mesh_folder: Path, reads: list[str]) -> None:
    load_shapes(mesh_folder, SMALL)
    reads.clear()
    (mesh_folder / "box" / "box_00.off").rename(mesh_folder / "box" / "renamed.off")
    load_shapes(mesh_folder, SMALL)
    assert reads == []


def test_changed_file_is_read_again(mesh_folder: Path, reads: list[str]) -> None:
    load_shapes(mesh_folder, SMALL)
    reads.clear()
    path = mesh_folder / "box" / "box_00.off"
    before = path.stat()
    path.write_text(path.read_text().replace("0.5", "0.6"))
    os.utime(path, (before.st_atime, before.st_mtime))
    load_shapes(mesh_folder, SMALL)
    assert reads == ["box/box_00.off"]


@pytest.mark.parametrize(
    ("transform", "options"),
    [
        (InputTransform(num_points=32, up_axis="z"), {}),
        (InputTransform(num_points=16), {}),
        (SMALL, {"num_stored": 40}),
        (SMALL, {"seed": 1}),
    ],
)
def test_other_settings_are_kept_apart(
    mesh_folder: Path, reads: list[str], transform: InputTransform, options: dict
) -> None:
    load_shapes(mesh_folder, SMALL)
    reads.clear()
    load_shapes(mesh_folder, transform, **options)
    assert len(reads) == 15


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text", "shape"])
def test_damaged_cache_file_is_made_anew_with_a_note(
    mesh_folder: Path, private_cache: Path, reads: list[str], damage: str
) -> None:
    first = load_shapes(mesh_folder, SMALL)
    victim = files(private_cache)[0]
    content = bytearray(victim.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[300] ^= 0xFF
    elif damage in ("empty", "text"):
        content = bytearray(b"" if damage == "empty" else b"not a cache file")
    victim.write_bytes(content)
    if damage == "shape":
        np.savez(victim, points=np.zeros((3, 3), np.float32), about=np.array("{}"))
    reads.clear()
    second = load_shapes(mesh_folder, SMALL)
    assert len(reads) == 1
    assert same(first, second)
    assert any("1 damaged" in note for note in second.notes)
    assert not any("damaged" in note for note in load_shapes(mesh_folder, SMALL).notes)


def test_cache_dir_that_cannot_be_written_is_only_noted(mesh_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    data = load_shapes(mesh_folder, SMALL, cache_dir=tmp_path / "file")
    assert len(data.train) == 9
    assert any(str(tmp_path / "file") in note for note in data.notes)
    assert not any("damaged" in note for note in data.notes)


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POINTPEFT_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("POINTPEFT_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache_dir() == Path("/home/someone/.cache/pointpeft")


def test_no_temporary_file_stays(mesh_folder: Path, tmp_path: Path) -> None:
    load_shapes(mesh_folder, SMALL, cache_dir=tmp_path / "kept")
    assert {file.suffix for file in files(tmp_path / "kept")} == {".npz"}


def test_notes_of_items_are_kept(mesh_folder: Path) -> None:
    np.savetxt(mesh_folder / "box" / "few.xyz", np.random.default_rng(0).normal(size=(20, 3)))
    first, second = (load_shapes(mesh_folder, SMALL) for _ in range(2))
    assert any("box/few.xyz: 20" in note for note in first.notes)
    assert first.notes == second.notes


def test_the_cache_keeps_within_its_limit(
    mesh_folder: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_shapes(mesh_folder, SMALL)
    size = max(size for _, size, _ in cached_files())
    monkeypatch.setenv("POINTPEFT_CACHE_LIMIT", f"{10.5 * size / 1e9:.12f}")
    load_shapes(mesh_folder, SMALL)  # they are all used now, and none is new
    assert len(cached_files()) == 15
    np.save(mesh_folder / "box" / "new.npy", np.random.default_rng(0).normal(size=(99, 3)))
    load_shapes(mesh_folder, SMALL)
    assert sum(each for _, each, _ in cached_files()) <= 10.5 * size
    assert cached_files()
    assert load_shapes(mesh_folder, SMALL).problems == ()


@pytest.mark.parametrize("limit", ["lots", "0", "-3", "nan"])
def test_a_limit_that_is_no_size_is_refused(
    mesh_folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("POINTPEFT_CACHE_LIMIT", limit)
    with pytest.raises(ConfigError, match="POINTPEFT_CACHE_LIMIT"):
        load_shapes(mesh_folder, SMALL)


def test_the_cache_can_be_cleared(mesh_folder: Path) -> None:
    load_shapes(mesh_folder, SMALL)
    (cached_files()[0][0].parent / "killed.npz.0123.tmp").write_bytes(b"half written")
    assert clear_cache() == 16
    assert cached_files() == []
    assert load_shapes(mesh_folder, SMALL).problems == ()
