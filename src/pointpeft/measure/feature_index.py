"""Features of many shapes, what made them, and a search among them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointpeft import __version__
from pointpeft.cards import SHOWN_OF_HASH
from pointpeft.data import InputTransform, Problem
from pointpeft.data.corpus import is_shard_folder, read_corpus_features
from pointpeft.data.corpus.features import MAPPED_FEATURES
from pointpeft.data.feature_files import StoredFeatures, read_features, write_features
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure import approximate
from pointpeft.measure.nearest import Matches, near_duplicates, nearest
from pointpeft.measure.shape_sources import ShapeSource

__all__ = ["FeatureModel", "Index", "NearDuplicates"]


@dataclass(frozen=True)
class FeatureModel:
    """What makes features of shapes: a network with its weights, and how its input is prepared.

    Attributes:
        name: registry name of the backbone.
        sizes: every setting of it, and ``num_points``, as plain values.
        weights: hash of the backbone's weights, see :func:`pointpeft.models.state_hash`.
        transform: how clouds are prepared.
        adapter: hash of the adapter on it; None: the backbone is as it was pre-trained.
        version: of pointpeft.
    """

    name: str
    sizes: Mapping[str, Any]
    weights: str
    transform: InputTransform
    adapter: str | None = None
    version: str = __version__

    def __str__(self) -> str:
        on = f" with the adapter {self.adapter[:SHOWN_OF_HASH]}" if self.adapter else ""
        return f"{self.name} with the weights {self.weights[:SHOWN_OF_HASH]}{on}"

    def differs(self, other: "FeatureModel") -> str:
        """In what another model's features cannot be compared with this one's; empty: they can.

        The axis of files that points up may differ, and so may the version.
        """
        if (self.name, self.weights, self.adapter) != (other.name, other.weights, other.adapter):
            return f"{self} and {other}"
        mine, others = self._settings(), other._settings()
        return "; ".join(
            f"{key} is {mine.get(key)!r} and {others.get(key)!r}"
            for key in sorted(mine.keys() | others.keys())
            if mine.get(key) != others.get(key)
        )

    def _settings(self) -> dict[str, Any]:
        """All but the weights that a feature hangs on."""
        return {**self.sizes, **self.transform.to_dict(), "up_axis": None}

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FeatureModel":
        """From what :meth:`to_dict` gave.

        Raises:
            DataError: a key is unknown, missing or of another kind.
        """
        known: dict[str, Any] = {field.name: values.get(field.name) for field in fields(cls)}
        texts = ("name", "weights", "version")
        if set(values) != set(known) or not all(isinstance(known[key], str) for key in texts):
            raise DataError(f"the model is described by {sorted(values)}, not {sorted(known)}")
        if not isinstance(known["adapter"], str | None) or not isinstance(known["sizes"], dict):
            raise DataError("the description of the model is damaged")
        return cls(**{**known, "transform": InputTransform.from_dict(values["transform"])})


class NearDuplicates(NamedTuple):
    """Shapes that are nearly the same.

    Attributes:
        places: ``(G,)`` rows of the index, ascending.
        similarities: ``(G,)`` cosines to the first of them.
    """

    places: NDArray[np.int64]
    similarities: NDArray[np.float32]

    def pairs(self) -> list[tuple[int, float]]:
        """The places with their similarities."""
        return list(zip(self.places.tolist(), self.similarities.tolist(), strict=True))


@dataclass(frozen=True)
class Index:
    """Features of S shapes, made by :func:`pointpeft.embed`.

    Attributes:
        features: ``(S, C)`` float16 of unit length.
        ids: what the shapes are called: paths relative to the folder, or names of a data set.
        labels: ``(S,)`` int64, places in the class names; -1 where a class is not known.
        class_names: in label order.
        model: what made the features.
        source: where the shapes were read.
        problems: shapes that could not be read; not kept in a file.
        notes: what was noticed of others; not kept either.
        file: that it was loaded from.
    """

    features: NDArray[np.float16]
    ids: Sequence[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    model: FeatureModel
    source: ShapeSource
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    file: Path | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def class_of(self, place: int) -> str | None:
        """Name of the class of a shape, where it is known."""
        label = int(self.labels[place])
        return self.class_names[label] if label >= 0 else None

    def search(self, queries: "Index | NDArray", top: int = 10) -> Matches:
        """The shapes nearest to each query by cosine similarity.

        They are found by comparing with all shapes. Among more than a million, FAISS looks at those
        in the nearest cells where it is installed, and may miss one of a hundred.

        Args:
            queries: features by the same model, ``(Q, C)``, or an index of them.
            top: how many to find, at least 1.

        Raises:
            ConfigError: the queries are of another model or not finite, or ``top`` is too small.
        """
        if top < 1:
            raise ConfigError(f"`top` must be at least 1, got {top}")
        if isinstance(queries, Index):
            if differences := self.model.differs(queries.model):
                raise ConfigError(f"index and queries cannot be compared: {differences}")
            queries = queries.features
        if queries.ndim != 2 or queries.shape[1] != self.features.shape[1]:
            channels = self.features.shape[1]
            raise ConfigError(f"queries {queries.shape}: expected features (Q, {channels})")
        if not np.isfinite(queries).all():
            raise ConfigError("queries hold NaN or infinite numbers: nothing is near to them")
        if (cells := self._cells) is not None:
            return approximate.nearest_cells(cells, queries, top)
        return nearest(queries, self.features, top)

    @cached_property
    def _cells(self) -> Any:
        """What makes a search among very many shapes faster; None where it is not needed."""
        if len(self) <= approximate.COMPARED_ONE_BY_ONE:
            return None
        return approximate.neighbour_cells(self.features, self.file)

    def duplicates(
        self, threshold: float = 0.999, progress: Callable[[int, int], None] | None = None
    ) -> list[NearDuplicates]:
        """Groups of shapes that are nearly the same, the largest first.

        A group is what hangs together by similarities of at least the threshold. All pairs are
        compared: 100,000 shapes take a minute or two, twice as many take four times as long.

        Args:
            threshold: cosine similarity, above 0, up to 1.
            progress: called with (done, total) shapes.

        Raises:
            ConfigError: the threshold is out of range.
        """
        if not 0 < threshold <= 1:
            raise ConfigError(f"`threshold` must be above 0 and at most 1, got {threshold}")
        found = []
        for places in near_duplicates(self.features, threshold, progress):
            to_first = nearest(self.features[places[:1]], self.features[places], len(places))
            similarities = np.empty(len(places), dtype=np.float32)
            similarities[to_first.places[0]] = to_first.similarities[0]
            found.append(NearDuplicates(places, similarities))
        return found

    def save(self, path: str | Path) -> None:
        """Write a ``.npz`` or ``.parquet`` file.

        The place of the shapes is written as seen from its folder, so that both may be moved
        together: no absolute path.

        Raises:
            ConfigError: another suffix, there is such a file, or pyarrow is missing.
        """
        about = {"model": self.model.to_dict(), "source": self.source.to_dict(Path(path).parent)}
        stored = StoredFeatures(self.features, self.ids, self.labels, self.class_names, about)
        write_features(path, stored)

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """Read what :meth:`save` wrote, or a folder of shards that `pointpeft embed` wrote.

        The features of a folder are mapped into memory, and so are those of a large ``.npz``.

        Raises:
            DataError: no such file, another kind of file, or a damaged one.
            ConfigError: pyarrow is missing.
        """
        path, in_shards = Path(path), is_shard_folder(path)
        if is_shard_folder(path.parent) and path.match("part-*"):
            raise DataError(f"{path} is one shard of an index: name its folder {path.parent}")
        stored = read_corpus_features(path) if in_shards else read_features(path)
        file = path / MAPPED_FEATURES if in_shards else path
        try:
            model = FeatureModel.from_dict(stored.metadata["model"])
            source = ShapeSource.from_dict(stored.metadata["source"], path.parent)
        except (DataError, LookupError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is damaged: {error}") from error
        labels = stored.labels.astype(np.int64, copy=False)
        return cls(
            stored.features, stored.ids, labels, stored.class_names, model, source, file=file
        )
