"""From a saved part-segmentation adapter and a file to a part for every point."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pointpeft.data import RawShape, read_shape, sample_surface
from pointpeft.data.parts import PART_NAMES, read_part_names
from pointpeft.data.ply import write_labelled_ply
from pointpeft.data.prepare import InputTransform, Prepared, default_num_stored
from pointpeft.data.triangles import usable_faces
from pointpeft.errors import ConfigError, DataError, nearest_hint
from pointpeft.files import file_name, replacing
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.measure.part_scores import part_mask, segment
from pointpeft.measure.records import output_folder

__all__ = [
    "PartInput",
    "PartPrediction",
    "PartPredictor",
    "part_input",
    "write_as_found",
    "write_predictions",
]

_MOST_AHEAD = 2_000_000
"""Points of the files of a batch beyond which it is closed: 64 MB."""


@dataclass(frozen=True)
class PartPrediction:
    """Outcome for one file.

    Attributes:
        file: as it was named.
        category: what the shape was taken to be.
        points: ``(N, 3)``: every point of a cloud, or points sampled on a mesh, in the frame and
            unit of the file; empty if the file cannot be used.
        seg: ``(N,)`` part of every point.
        shares: name of each part of the category and the share of the points it has, 0 to 1.
        warnings: what about the input differs from the training data.
        error: why the file cannot be used, or None.
    """

    file: str
    category: str
    points: NDArray[np.float64]
    seg: NDArray[np.int64]
    shares: tuple[tuple[str, float], ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None


class PartPredictor(LoadedAdapter):
    """Finds the parts of shapes in files, preparing them as in the training of an adapter.

    Arguments are those of :class:`LoadedAdapter`.

    Attributes:
        part_names: in label order.
        categories: labels of the parts of each category.

    Raises:
        ConfigError: the adapter is for classification.
    """

    _task = "part_segmentation"

    def __init__(
        self,
        folder: str | Path,
        checkpoint: str | Path | None = None,
        up_axis: str | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(folder, checkpoint, up_axis, device)
        assert self.parts is not None, "an adapter of part segmentation"
        self.part_names = self.parts.names
        self.categories = self.parts.categories
        self._mask = part_mask(self.parts)
        # By the papers' code a cloud is something else in another batch.
        self._is_alone = self.model.tuner.depends_on_batch

    def choose_category(self, name: str | None) -> str:
        """The category called ``name``; the only one if there is only one.

        Raises:
            ConfigError: it is unknown, or not said although there are several.
        """
        known = ", ".join(self.class_names)
        if name is None:
            if len(self.class_names) > 1:
                raise ConfigError(
                    f"the parts of a shape depend on what it is: pass `category`, one of {known}"
                )
            return self.class_names[0]
        if name not in self.class_names:
            hint = nearest_hint(name, self.class_names)
            raise ConfigError(f"unknown category {name!r}: {hint}the adapter knows {known}")
        return name

    def predict_file(self, file: str | Path, category: str | None = None) -> PartPrediction:
        """The parts of one mesh or scan.

        Args:
            file: any file of a shape; part labels in it are not looked at.
            category: what it shows; needed if the adapter knows several categories.

        Raises:
            ConfigError: as for :meth:`choose_category`. A file that cannot be read gives a
                prediction with its ``error``.
        """
        (found,) = self.stream([file], category, 1)
        return found

    def stream(
        self, files: Sequence[str | Path], category: str | None = None, batch_size: int = 32
    ) -> Iterator[PartPrediction]:
        """Predictions as they are made, in the order of the files.

        Files are read up to 2 million points ahead, beside the largest one.

        Args:
            files: meshes and scans.
            category: what all of them show; needed if the adapter knows several categories.
            batch_size: clouds that the model sees at once.

        Raises:
            ConfigError: as for :meth:`choose_category`, or ``batch_size`` is no such number.
        """
        if type(batch_size) is not int or batch_size < 1:
            raise ConfigError(f"`batch_size` must be an integer of at least 1, got {batch_size!r}")
        category = self.choose_category(category)
        return self._predict(files, category, 1 if self._is_alone else batch_size)

    def _predict(
        self, files: Sequence[str | Path], category: str, batch_size: int
    ) -> Iterator[PartPrediction]:
        batch: list[_Read] = []
        for place, file in enumerate(files, start=1):
            batch.append(self._read(file))
            ahead = sum(len(one.given.points) for one in batch if one.given)
            if len(batch) == batch_size or ahead > _MOST_AHEAD or place == len(files):
                yield from self._label(batch, category)
                batch = []

    def _read(self, file: str | Path) -> "_Read":
        try:
            shape = read_shape(file)
            given = part_input(shape, self.transform)
        except DataError as error:
            return _Read(str(file), error=str(error))
        return _Read(str(file), given, self.warnings(shape, given.prepared))

    def _label(self, batch: "list[_Read]", category: str) -> Iterator[PartPrediction]:
        """The parts of all points of some files.

        The model labels as many points as it was trained on; the others have the part of the
        nearest one of these.
        """
        clouds = [one.given.prepared.points for one in batch if one.given]
        numbers = torch.full((len(clouds),), self.class_names.index(category))
        labels: Iterator[NDArray[np.int64]] = iter(())
        if clouds:
            together = torch.from_numpy(np.stack(clouds))
            labels = iter(segment(self.model, together, numbers, self._mask, len(clouds)))
        for one in batch:
            if one.given is None:
                nothing = np.empty((0, 3)), np.empty(0, dtype=np.int64)
                yield PartPrediction(one.file, category, *nothing, error=one.error)
                continue
            seg = next(labels)[one.given.nearest]
            shares = tuple(
                (self.part_names[part], float((seg == part).mean()))
                for part in self.categories[category]
            )
            yield PartPrediction(one.file, category, one.given.points, seg, shares, one.warnings)


@dataclass(frozen=True)
class PartInput:
    """A shape made ready for part segmentation.

    Attributes:
        points: ``(M, 3)`` that get a part: those of a cloud, or points sampled on a mesh.
        prepared: what the model sees.
        nearest: ``(M,)`` for each of ``points`` the nearest row of ``prepared``, whose part it
            gets.
    """

    points: NDArray[np.float64]
    prepared: Prepared
    nearest: NDArray[np.int64]


@dataclass(frozen=True)
class _Read:
    """A file made ready, or why it is not."""

    file: str
    given: PartInput | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None


def part_input(shape: RawShape, transform: InputTransform) -> PartInput:
    """Make a shape ready for part segmentation.

    Raises:
        DataError: the shape has no usable geometry.
    """
    points = np.asarray(shape.points, dtype=np.float64)
    faces = shape.faces
    if faces is not None and len(usable_faces(points, faces)[0]):
        points = sample_surface(points, faces, default_num_stored(transform, None), seed=0)
        faces = None
    rows = np.arange(len(points))  # as labels they tell which points were chosen
    raw = RawShape(points, faces, shape.source, shape.notes, seg=rows)
    (prepared,) = transform.prepare_inputs([raw])
    if isinstance(prepared, DataError):
        raise DataError(f"{shape.source}: {prepared}")
    assert prepared.seg is not None
    _, nearest = cKDTree(points[prepared.seg]).query(points)
    return PartInput(points, prepared, np.asarray(nearest))


def write_predictions(
    predictions: Sequence[PartPrediction], part_names: Sequence[str], output: str | Path
) -> list[Path | None]:
    """Write ``<output>/<category>/<file>.ply`` for every prediction, and ``<output>/parts.txt``.

    The folder is itself a data set with part labels: corrected, it can be trained on.

    Args:
        predictions: what was found.
        part_names: in label order.
        output: the folder.

    Returns:
        For each prediction the file written, None if it has an error.

    Raises:
        ConfigError: a file would replace another one, or the folder holds shapes with other parts.
    """
    named = [(one.file, one.category) for one in predictions]
    return [path for _, path in write_as_found(predictions, named, part_names, output)]


def write_as_found(
    predictions: Iterable[PartPrediction],
    named: Sequence[tuple[str, str]],
    part_names: Sequence[str],
    output: str | Path,
) -> Iterator[tuple[PartPrediction, Path | None]]:
    """:func:`write_predictions` of predictions that are yet to be made, each as it comes.

    What cannot be written is refused at once, before any is made.

    Args:
        predictions: in the order of ``named``.
        named: file and category of each.
        part_names: in label order.
        output: the folder.

    Returns:
        Each prediction with the file written.
    """
    targets = _targets(named, Path(output))
    if taken := [target for target in targets if target.exists()]:
        raise ConfigError(f"{taken[0]} is there already: name another folder as `output`")
    listed = Path(output) / PART_NAMES
    if listed.exists() and read_part_names(listed) != tuple(part_names):
        raise ConfigError(f"{listed} lists other parts: name another folder as `output`")
    output_folder(output)
    with replacing(listed) as temporary:
        temporary.write_text("\n".join(part_names) + "\n", encoding="utf-8")
    return (_written(one, target) for one, target in zip(predictions, targets, strict=True))


def _written(one: PartPrediction, target: Path) -> tuple[PartPrediction, Path | None]:
    if one.error:
        return one, None
    write_labelled_ply(target, one.points, one.seg)
    return one, target


def _targets(named: Sequence[tuple[str, str]], folder: Path) -> list[Path]:
    """A file for each file of a category; names that occur again are numbered."""
    targets: dict[Path, None] = {}
    for file, category in named:
        name, number = Path(file).stem, 1
        while (target := folder / file_name(category) / f"{name}.ply") in targets:
            number += 1
            name = f"{Path(file).stem}-{number}"
        targets[target] = None
    return list(targets)
