"""What is done with the files of a corpus: rows of a shard, made by a model that is loaded once."""

import abc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pointpeft.data import InputStatistics, InputTransform
from pointpeft.data.chunks import in_batches
from pointpeft.data.corpus import FEATURES, FileList, ListedFile
from pointpeft.data.shards.index import import_parquet
from pointpeft.data.streaming import ReadyFile
from pointpeft.errors import check_sizes
from pointpeft.measure.embedding import DEFAULT_MODEL, ShapeEncoder

__all__ = ["Features", "Row", "RowMaker", "Work"]

Row = Mapping[str, Any]


class RowMaker(abc.ABC):
    """A model that makes rows of shapes.

    Attributes:
        made_by: what the rows hang on besides the files, as plain values, with their "kind".
        transform: how shapes are prepared.
        statistics: of training shapes, to warn of others.
        schema: columns as Arrow has them, "error" among them.
        notes: what is done to every shape because it was asked for.
    """

    made_by: Mapping[str, Any]
    transform: InputTransform
    statistics: InputStatistics | None
    schema: Any
    notes: tuple[str, ...]

    @abc.abstractmethod
    def rows(self, ready: Iterable[ReadyFile]) -> Iterator[Row]:
        """A row for each file, in their order; one that cannot be used has its error."""

    @abc.abstractmethod
    def named(self, one: ListedFile, files: FileList) -> Row:
        """Columns that say which file a row is of, beside those of :meth:`rows`."""


class Work(Protocol):
    """What makes rows, before it is loaded: it can be sent to other processes and machines."""

    def load(self, device: str) -> RowMaker:
        """The model, on "cpu" or "cuda"."""


@dataclass(frozen=True)
class Features:
    """One feature for every file; arguments are those of :func:`pointpeft.embed`."""

    model: str | None = None
    checkpoint: str | Path | None = None
    adapter: str | Path | None = None
    batch_size: int = 32
    up_axis: str | None = None

    def __post_init__(self) -> None:
        check_sizes(self, ["batch_size"])

    def load(self, device: str) -> "FeatureRows":
        """The encoder.

        Raises:
            ConfigError: a model without features of shapes.
            CheckpointError: weights are not found, or do not fit.
        """
        given = (self.checkpoint, self.up_axis, device)
        if self.adapter is not None:
            return FeatureRows(ShapeEncoder.of_adapter(self.adapter, *given), self.batch_size)
        encoder = ShapeEncoder.of_backbone(self.model or DEFAULT_MODEL, *given)
        return FeatureRows(encoder, self.batch_size)


class FeatureRows(RowMaker):
    """Makes rows with the columns id, class, split, digest, feature, length, warnings, error.

    ``feature`` is of unit length in half precision; times ``length`` it is what the model gave.
    ``digest`` is of the geometry, equal for copies of a shape.
    """

    statistics = None
    notes = ()

    def __init__(self, encoder: ShapeEncoder, batch_size: int) -> None:
        self._encoder, self._batch_size = encoder, batch_size
        self.transform = encoder.model.transform
        self.made_by = {"kind": FEATURES, "model": encoder.model.to_dict()}
        self.schema = _feature_schema()

    def rows(self, ready: Iterable[ReadyFile]) -> Iterator[Row]:
        """See :class:`RowMaker`."""
        for batch in in_batches(ready, self._batch_size):
            clouds = [one.points for one in batch if one.points is not None]
            made = iter(self._encode(np.stack(clouds)) if clouds else ())
            for one in batch:
                feature, length = (None, None) if one.points is None else next(made)
                yield {
                    "digest": one.digest or None,
                    "feature": feature,
                    "length": length,
                    "warnings": list(one.warnings),
                    "error": one.error,
                }

    def named(self, one: ListedFile, files: FileList) -> Row:
        """See :class:`RowMaker`."""
        return {"id": files.id(one.file), "class": one.class_name, "split": one.split}

    def _encode(self, clouds: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        features, lengths = self._encoder.encode_with_lengths(torch.from_numpy(clouds))
        return zip(features, lengths.tolist(), strict=True)


def _feature_schema() -> Any:
    arrow, _ = import_parquet()
    text = arrow.string()
    columns = dict.fromkeys(("id", "class", "split", "digest"), text)
    columns |= {"feature": arrow.list_(arrow.float16()), "length": arrow.float32()}
    columns |= {"warnings": arrow.list_(text), "error": text}
    return arrow.schema(list(columns.items()))
