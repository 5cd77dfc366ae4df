"""Load a labelled data set, wherever it comes from, as arrays ready for a model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pointpeft.data.archive import list_archive
from pointpeft.data.benchmarks.episodes import refuse_episodes
from pointpeft.data.benchmarks.stored import archived_dataset, find_stored, list_benchmark
from pointpeft.data.cache import PreparedCache, short_digest
from pointpeft.data.embedded import EMBEDDED_NAMES, is_embedded, list_embedded
from pointpeft.data.folder import EXPECTED_TREE, list_files, list_folder
from pointpeft.data.mesh_files import find_meshes
from pointpeft.data.parts import PartTable
from pointpeft.data.prepare import InputTransform, Prepared, default_num_stored
from pointpeft.data.prepared_items import (
    Loaded,
    OnError,
    Progress,
    fit_parts,
    load_items,
    with_parts,
)
from pointpeft.data.shape_data import ShapeData, ShapeSplit, UnlabelledShapes
from pointpeft.data.splits import (
    Item,
    Listing,
    assign_splits,
    check_classes,
    class_spelling,
    cut_parts,
    leave_out_copies,
    left_to_train,
)
from pointpeft.data.statistics import InputStatistics
from pointpeft.errors import DataError

__all__ = [
    "PROCEDURAL",
    "SHARD_INDEX",
    "absolute_source",
    "check_source",
    "choose_num_stored",
    "list_shapes",
    "load_shapes",
    "load_unlabelled",
]

SHARD_INDEX = "shards.json"
"""The file by which a folder of shards is known, see `pointpeft.data.shards`."""
PROCEDURAL = "procedural"
"""Name of the data source that stores no shapes: random programs make them on the way."""


def load_shapes(
    source: str | Path,
    transform: InputTransform = InputTransform(),  # noqa: B008 - frozen
    *,
    num_stored: int | None = None,
    on_error: OnError = "skip",
    val_fraction: float = 0.2,
    needed: Sequence[str] = ("test", "val"),
    seed: int = 0,
    cache_dir: Path | None = None,
    class_names: Sequence[str] | None = None,
    segmented: bool = False,
    parts: PartTable | None = None,
    variant: str | None = None,
    progress: Progress | None = None,
) -> ShapeData:
    """Load a data set with classes.

    Args:
        source: One of `EMBEDDED_NAMES`, a folder of meshes or scans, that of a benchmark data set,
            or an `.npz` of clouds.
        transform: How to prepare each shape.
        num_stored: Points kept of each shape; by default twice what the model sees, but not more
            than an `.npz` holds.
        on_error: Whether items that cannot be used are left out and reported, or refused.
        val_fraction: Part of train that a missing validation or test part is cut from, in [0, 1).
        needed: Parts that are cut when they are missing.
        seed: Of surface sampling and of cuts.
        cache_dir: Where prepared clouds are kept; see `default_cache_dir`.
        class_names: Fixes the label order, for data that an existing model is measured on. Then a
            class may lack training shapes, and one that is not among them is refused.
        segmented: Whether every point must have a part label. Then shapes without a class are left
            out.
        parts: Fixes the part labels, as `class_names` does for classes. Without it, parts belong
            to categories by their names, "Category/part", or else as the training shapes have them.
        variant: Name of a benchmark data set, where the folder holds several; an `.npz` must be
            made of that one.
        progress: Called with the number of shapes done and their total.

    Raises:
        DataError: The source is missing or not in an expected form, no item is usable, a class has
            nothing to train on, there are no part labels although they are asked for, or
            `on_error="refuse"` and an item is bad.
    """
    segmented = segmented or parts is not None
    listing = _list_source(source, labelled=True, segmented=segmented, variant=variant)
    names = _fix_classes(listing, class_names)
    if segmented:
        listing = with_parts(listing, source)
    num_stored = choose_num_stored(listing, transform, num_stored)
    cache = PreparedCache(cache_dir, transform, num_stored, seed, segmented)
    loaded = load_items(listing, cache, source, on_error, progress)
    if segmented:
        loaded, parts = fit_parts(loaded, listing.part_names, names, parts, source, on_error)
    items, split_notes = assign_splits(loaded.items, loaded.digests, val_fraction, seed, needed)
    is_for_training = class_names is None
    if is_for_training:
        items, copy_notes = leave_out_copies(items, loaded.digests)
        split_notes += copy_notes
    class_notes = check_classes(items, names, need_train=is_for_training)
    notes = (*listing.notes, *loaded.notes, *split_notes, *class_notes)
    data = _assemble(items, loaded, names, transform, notes, parts)
    return replace(
        data,
        title=listing.title,
        source=absolute_source(source),
        variant=variant,
        family=listing.family,
    )


def load_unlabelled(
    source: str | Path,
    transform: InputTransform = InputTransform(),  # noqa: B008 - frozen
    *,
    num_stored: int | None = None,
    on_error: OnError = "skip",
    val_fraction: float = 0.2,
    seed: int = 0,
    cache_dir: Path | None = None,
    variant: str | None = None,
    progress: Progress | None = None,
) -> UnlabelledShapes:
    """Load shapes for pre-training, whatever their classes.

    Shapes for validation or testing are left out: those that the source states to be and, where it
    has classes and states no test part, those that `load_shapes` cuts with the same `val_fraction`
    and `seed`. So an encoder has not seen what an adapter on it is tested on. Shapes without
    classes are used whole.

    Args:
        source: One of `EMBEDDED_NAMES`, a folder of files, flat or nested, that of a benchmark data
            set, or an `.npz` with `points`.
        val_fraction: As for `load_shapes`; with 0 nothing is cut.

    The other arguments are those of `load_shapes`.

    Raises:
        DataError: As for `load_shapes`.
    """
    listing = list_shapes(source, variant)
    stated = tuple(item for item in listing.items if item.split not in ("val", "test"))
    notes = list(listing.notes)
    if len(stated) < len(listing.items):
        notes.append(f"{len(listing.items) - len(stated)} validation and test shapes left out")
    if not stated:
        raise DataError(f"{source}: all shapes are for validation or testing, none to train on")
    needed = cut_parts(item.split for item in listing.items)
    listing = Listing(stated, (), listing.stored_points)
    num_stored = choose_num_stored(listing, transform, num_stored)
    cache = PreparedCache(cache_dir, transform, num_stored, seed)
    loaded = load_items(listing, cache, source, on_error, progress)
    kept, cut_notes = left_to_train(loaded.items, loaded.digests, val_fraction, seed, needed)
    pairs = zip(loaded.items, loaded.prepared, kept, strict=True)
    chosen = [(item, one) for item, one, is_kept in pairs if is_kept]
    split = _gather(chosen, (), loaded.prepared[0])
    return UnlabelledShapes(
        split.points,
        split.labels,
        split.ids,
        digests=split.digests,
        meshes=find_meshes(chosen, transform),
        notes=(*notes, *cut_notes, *loaded.notes),
        problems=loaded.problems,
    )


# Sources -----------------------------------------------------------------------------------------


def absolute_source(source: str | Path) -> str:
    """The same data set whatever the working directory: an absolute path, or the name of an
    embedded one.
    """
    return str(source) if is_embedded(source) else str(Path(source).expanduser().resolve())


def check_source(source: str | Path, variant: str | None = None) -> None:
    """Refuse a data set that is not there, or not the published one that is named; read nothing.

    Raises:
        DataError: As for `load_shapes`, of a source that is missing.
    """
    path = Path(source).expanduser()
    if is_embedded(source):
        return
    if variant is not None:
        find_stored(path, variant)  # complains unless it is there
    elif not path.exists():
        _list_source(source, labelled=True)  # says what is expected there


def _list_source(
    source: str | Path, *, labelled: bool, segmented: bool = False, variant: str | None = None
) -> Listing:
    path = Path(source).expanduser()
    embedded = is_embedded(source)
    if not embedded and variant is None:
        refuse_episodes(path)
    if not embedded and (path / SHARD_INDEX).is_file():
        raise DataError(f"{path} holds shards, which are for pre-training alone")
    # A folder that is not there is a benchmark data set's if one is named: that tells what to put.
    if not embedded and (path.is_dir() or (variant is not None and not path.exists())):
        listing = list_benchmark(path, labelled=labelled, variant=variant)
        return listing or (list_folder(path) if labelled else list_files(path))
    if variant is not None:
        archived_dataset(path, variant)  # complains unless it is that one
    if embedded:
        return list_embedded(str(source), labelled=labelled)
    if path.is_file() and path.suffix.lower() == ".npz":
        listing = list_archive(path, labelled=labelled, segmented=segmented)
        archived = archived_dataset(path)
        if archived is None:
            return listing
        items = (replace(item, object_id=archived.object_id(item.id)) for item in listing.items)
        listing = replace(listing, items=tuple(items))
        return replace(listing, title=archived.title, family=archived.family)
    names = ", ".join(map(repr, EMBEDDED_NAMES))
    seen = "not a folder or .npz" if path.exists() else "no such folder or file"
    raise DataError(f"{path}: {seen}; give {names}, an .npz or a folder, {EXPECTED_TREE}")


def list_shapes(source: str | Path, variant: str | None = None) -> Listing:
    """All shapes of a source, none of them read, with their classes where it has some.

    Raises:
        DataError: As for `load_unlabelled`, of a source that is missing or of another form.
    """
    listing = _list_source(source, labelled=False, variant=variant)
    try:
        labelled = _list_source(source, labelled=True, variant=variant)
    except DataError:
        return listing
    classes = {item.id: item.class_name for item in labelled.items}
    items = (replace(item, class_name=classes.get(item.id)) for item in listing.items)
    return replace(listing, items=tuple(items), class_names=labelled.class_names)


def _fix_classes(listing: Listing, class_names: Sequence[str] | None) -> tuple[str, ...]:
    if class_names is None:
        return listing.class_names
    class_names = tuple(map(class_spelling, class_names))
    unknown = [name for name in listing.class_names if name not in class_names]
    if unknown:
        raise DataError(
            f"classes {', '.join(unknown)} of the data are unknown to the model, "
            f"which knows {', '.join(class_names)}"
        )
    return class_names


def choose_num_stored(
    listing: Listing, transform: InputTransform, num_stored: int | None = None
) -> int:
    """Points that are kept of each shape: as many as asked for, or the default, which for arrays is
    no more than they hold.
    """
    chosen = default_num_stored(transform, num_stored)
    if num_stored is None and listing.stored_points is not None:
        return max(transform.num_points, min(chosen, listing.stored_points))
    return chosen


def _assemble(
    items: Sequence[Item],
    loaded: Loaded,
    names: tuple[str, ...],
    transform: InputTransform,
    notes: tuple[str, ...],
    parts: PartTable | None,
) -> ShapeData:
    """The data set of items that each have a part."""
    chosen, stated = {item.split for item in items}, {item.split for item in loaded.items}
    pairs = list(zip(items, loaded.prepared, strict=True))
    train, val, test, unlabelled = (
        _gather([pair for pair in pairs if pair[0].split == split], names, pairs[0][1])
        for split in ("train", "val", "test", "unlabelled")
    )
    statistics = None
    if trained := [one for item, one in pairs if item.split == "train"]:
        statistics = InputStatistics.from_raw(
            [one.raw_count for one in trained], [one.raw_radius for one in trained], train.points
        )
    return ShapeData(
        class_names=names,
        train=train,
        val=val,
        test=test,
        unlabelled=unlabelled,
        transform=transform,
        statistics=statistics,
        notes=notes,
        problems=loaded.problems,
        parts=parts,
        cut=frozenset({"val", "test"} & (chosen - stated)),
    )


def _gather(
    chosen: Sequence[tuple[Item, Prepared]], names: Sequence[str], example: Prepared
) -> ShapeSplit:
    """The chosen shapes, maybe none, with arrays of the form that those of the example have."""
    number = {name: label for label, name in enumerate(names)}
    seg = None
    if example.seg is not None:
        labels = [np.asarray(one.seg) for _, one in chosen]
        seg = np.array(labels, np.int64).reshape(-1, len(example.seg))
    clouds = np.array([one.points for _, one in chosen], np.float32)
    objects = [item.object_id for item, _ in chosen if item.object_id]
    return ShapeSplit(
        points=clouds.reshape(-1, *example.points.shape),
        labels=np.array([number.get(item.class_name or "", -1) for item, _ in chosen], np.int64),
        ids=tuple(item.id for item, _ in chosen),
        seg=seg,
        digests=tuple(one.digest for _, one in chosen),
        objects=tuple(map(short_digest, objects)) if len(objects) == len(chosen) else (),
    )
