from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pointpeft.data import splits
from pointpeft.data.splits import Item, check_classes, leave_out_copies
from pointpeft.errors import DataError

ORIGIN = np.zeros((1, 3))


def items(counts: dict[str, int], split: str | None = None) -> list[Item]:
    return [
        Item(f"{split}/{name}/{place}", name, split, ORIGIN)
        for name, count in counts.items()
        for place in range(count)
    ]


def assign_splits(given: list[Item], *args, **kwargs) -> tuple[list[Item], list[str]]:
    """Cut shapes each of which has a content of its own, as its name says."""
    return splits.assign_splits(given, [item.id for item in given], *args, **kwargs)


def table(assigned: list[Item]) -> Counter:
    return Counter((item.class_name, item.split) for item in assigned)


def parts(assigned: list[Item]) -> dict[str, str | None]:
    return {item.id: item.split for item in assigned}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2))],
)
def test_missing_parts_are_cut_by_class(count: int, expected: tuple[int, int, int]) -> None:
    assigned, notes = assign_splits(items({"a": count, "b": 20}), 0.2, seed=0)
    counts = table(assigned)
    assert tuple(counts["a", part] for part in ("train", "val", "test")) == expected
    assert " test " in notes[0]
    assert " val " in notes[1]


def test_stated_parts_are_kept() -> None:
    given = items({"a": 5}, "train") + items({"a": 3}, "val") + items({"a": 2}, "test")
    assigned, notes = assign_splits(given, 0.2, seed=0)
    assert assigned == given
    assert notes == []


def test_only_the_missing_part_is_cut() -> None:
    assigned, notes = assign_splits(
        items({"a": 10}, "train") + items({"a": 4}, "test"), 0.2, seed=0
    )
    counts = table(assigned)
    assert (counts["a", "train"], counts["a", "val"], counts["a", "test"]) == (8, 2, 4)
    assert len(notes) == 1


def test_choice_ignores_order_and_other_classes() -> None:
    alone, _ = assign_splits(items({"a": 10}), 0.2, seed=0)
    beside, _ = assign_splits(items({"b": 7, "a": 10})[::-1], 0.2, seed=0)
    assert parts(alone).items() <= parts(beside).items()


def test_choice_depends_on_content_not_on_names() -> None:
    given = items({"a": 10, "b": 10})
    contents = [f"content {place}" for place in range(20)]
    renamed = [Item(f"new {i}", item.class_name, None, ORIGIN) for i, item in enumerate(given)]
    first, second = (
        splits.assign_splits(each, contents, 0.2, seed=0)[0] for each in (given, renamed)
    )
    assert [item.split for item in first] == [item.split for item in second]


def test_a_shape_more_or_less_leaves_the_choice_of_most_others() -> None:
    before = parts(assign_splits(items({"a": 50}), 0.2, seed=0)[0])
    after = parts(assign_splits(items({"a": 51})[1:], 0.2, seed=0)[0])
    assert sum(before[name] != after[name] for name in set(before) & set(after)) <= 3


def test_copies_stay_on_one_side() -> None:
    given = items({"a": 12})
    contents = [str(place // 2) for place in range(12)]
    assigned, _ = splits.assign_splits(given, contents, 0.2, seed=0)
    for first, second in zip(assigned[::2], assigned[1::2], strict=True):
        assert first.split == second.split
    assert {item.split for item in assigned} == {"train", "val", "test"}


def test_seed_changes_the_choice() -> None:
    first, again, other = (parts(assign_splits(items({"a": 30}), 0.2, s)[0]) for s in (0, 0, 1))
    assert first == again != other


def test_items_without_part_beside_others_go_to_train_with_a_note() -> None:
    given = items({"a": 4}, "train") + items({"a": 2}, "test") + items({"a": 1})
    assigned, notes = assign_splits(given, 0.0, seed=0)
    assert table(assigned)["a", "train"] == 5
    assert notes[0].startswith("1 ")


def test_zero_fraction_cuts_nothing() -> None:
    assigned, notes = assign_splits(items({"a": 9}), 0.0, seed=0)
    assert table(assigned) == {("a", "train"): 9}
    assert notes == []


def test_only_needed_parts_are_cut() -> None:
    assigned, notes = assign_splits(items({"a": 10}), 0.2, seed=0, needed=("test",))
    assert table(assigned) == {("a", "train"): 8, ("a", "test"): 2}
    assert len(notes) == 1


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 20])
def test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match="val_fraction"):
        assign_splits(items({"a": 3}), fraction, seed=0)


def test_class_without_training_shape_is_refused_unless_measured_only() -> None:
    given = items({"a": 2, "b": 2}, "test") + items({"a": 1}, "train")
    with pytest.raises(DataError, match=r" b\b"):
        check_classes(given, ["a", "b"], need_train=True)
    assert check_classes(given, ["a", "b"], need_train=False) == []


def test_class_without_test_shape_is_named() -> None:
    given = items({"a": 2, "b": 2}, "train") + items({"a": 1}, "test")
    (note,) = check_classes(given, ["a", "b"], need_train=True)
    assert note.endswith(" b")


def test_held_out_copies_are_left_out_and_named() -> None:
    given = items({"a": 2}, "train") + items({"a": 1}, "val") + items({"a": 3}, "test")
    kept, (note,) = leave_out_copies(given, ["1", "2", "3", "2", "3", "4"])
    assert [item.split for item in kept] == ["train", "train", "val", None, None, "test"]
    assert "test/a/0 = train/a/1, test/a/1 = val/a/0" in note
    assert leave_out_copies(given, list("123456")) == (given, [])
    assert leave_out_copies(given, list("123444")) == (given, [])  # of each other they may be


def test_a_shape_in_two_classes_is_named() -> None:
    given = items({"a": 1, "b": 2}, "train") + items({"b": 1}, "test")
    kept, notes = leave_out_copies(given, list("1211"))
    assert [item.split for item in kept] == ["train", "train", "train", None]
    (two_classes,) = [note for note in notes if "two classes" in note]
    assert "train/b/1 = train/a/0, test/b/0 = train/a/0" in two_classes
    assert leave_out_copies(given, list("1234")) == (given, [])


def test_digest_covers_the_buffers_of_a_gltf_file(tmp_path: Path) -> None:
    (tmp_path / "a.gltf").write_text('{"buffers": [{"uri": "a.bin"}, {"uri": "data:,"}]}')
    item = Item("a", None, None, tmp_path / "a.gltf")
    digests = []
    for content in (b"1", b"2"):
        (tmp_path / "a.bin").write_bytes(content)
        digests.append(item.digest())
    assert digests[0] != digests[1]


def test_digest_follows_content_and_kind(tmp_path: Path) -> None:
    for name, text in {"a.txt": "1 2 3", "b.txt": "1 2 3", "c.xyz": "1 2 3"}.items():
        (tmp_path / name).write_text(text)
    same, copy, other_kind = (
        Item(name, None, None, tmp_path / name).digest() for name in ("a.txt", "b.txt", "c.xyz")
    )
    assert same == copy != other_kind
