"""From an uploaded shape and the name of an adapter to an answer."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pointpeft.data.streaming import ReadyFile
from pointpeft.errors import ConfigError
from pointpeft.measure.analysis import model_outputs
from pointpeft.measure.part_scores import likeliest_parts
from pointpeft.measure.predictor import ranked
from pointpeft.peft.mixed_batches import mixed_outputs
from pointpeft.serving.batching import BatchThreads
from pointpeft.serving.limits import Limits
from pointpeft.serving.reader_process import ReadShape
from pointpeft.serving.readers import ReaderPool
from pointpeft.serving.served_adapters import AdapterSet, ServedAdapter, UnknownAdapterError
from pointpeft.serving.uploads import Upload
from pointpeft.tasks.class_predictions import prediction_value

__all__ = ["Service"]

_DECIMALS = 5
"""Of the points that are sent back."""
_SKETCH = 256
"""Points that show a training shape."""


@dataclass(frozen=True)
class _Asked:
    """A cloud for the model."""

    read: ReadShape
    served: ServedAdapter
    category: int | None
    wants: Literal["prediction", "feature"]
    points: bool = False


class Service:
    """Reads shapes and computes predictions and features for many clients at a time.

    Args:
        adapters: on their trunks; from now on they belong to the service.
        limits: of a request.
        folder: whose sub-folders may be loaded as adapters while the service runs; None: none may.
        readers: processes that read shapes.
        most: clouds that the model sees at once.

    Attributes:
        limits: of a request.
        readers: the processes that read shapes.
        batches: how many batches the model has computed.
        clouds: how many clouds were in them.
    """

    def __init__(
        self,
        adapters: AdapterSet,
        limits: Limits | None = None,
        folder: Path | None = None,
        readers: int = 2,
        most: int = 32,
    ) -> None:
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"`adapters` {folder} is no folder")
        self._adapters, self._folder = adapters, folder
        self.limits = limits or Limits()
        self.readers = ReaderPool(readers, self.limits)
        self._model: BatchThreads[_Asked, Any] = BatchThreads([self._compute], most)
        self._users: Counter[str] = Counter()
        self.batches = self.clouds = 0

    def close(self) -> None:
        """Do what waits, and end all processes and threads."""
        self.readers.close()
        self._model.close()
        self._adapters.close()

    # --- adapters -------------------------------------------------------------------------------

    @contextmanager
    def using(self, name: str | None) -> Iterator[ServedAdapter]:
        """An adapter, see :meth:`AdapterSet.find`, which the model keeps until it is not used."""
        served = self._adapters.find(name)
        self._users[served.key] += 1
        try:
            yield served
        finally:
            self._users[served.key] -= 1
            self._forget_unused()

    def _forget_unused(self) -> None:
        for served in list(self._adapters.retired):
            if not self._users[served.key]:
                del self._users[served.key]
                self._adapters.retired.remove(served)
                self._model.call(partial(self._adapters.forget, served))

    def list_adapters(self) -> list[dict[str, Any]]:
        """The adapters in the order of their loading, as plain values."""
        return [served.describe() for served in self._adapters]

    async def load(self, name: str) -> dict[str, Any]:
        """Load the adapter in the sub-folder ``name``, in place of one of that name.

        Raises:
            UnknownAdapterError: there is no such sub-folder, or none may be loaded.
            CheckpointError: it holds no adapter, or the weights of its encoder are not found.
        """
        if self._folder is None:
            raise UnknownAdapterError("the service was started without --adapters: none is loaded")
        # Compared with what is there, so that a name cannot lead anywhere else.
        found = {path.name: path for path in self._folder.iterdir() if path.is_dir()}
        if name not in found:
            raise UnknownAdapterError(f"no folder {name!r} is among those that may be loaded")
        served = await asyncio.wrap_future(
            self._model.call(lambda: self._adapters.load(name, found[name]))
        )
        self._forget_unused()
        return served.describe()

    async def remove(self, name: str) -> None:
        """Take an adapter away; what was asked of it before is answered.

        Raises:
            UnknownAdapterError: there is none of that name.
        """
        await asyncio.wrap_future(self._model.call(lambda: self._adapters.remove(name)))
        self._forget_unused()

    # --- shapes ---------------------------------------------------------------------------------

    async def predict(
        self, upload: Upload, served: ServedAdapter, category: int | None, points: bool
    ) -> dict[str, Any]:
        """Classes or parts of a shape as plain values; ``error`` says why there are none.

        With ``points`` they have the points that the model saw, or that got a part, and some of
        the nearest training shapes.
        """
        read = await self._read(upload, served)
        if read.error is not None:
            return {"file": upload.name, "error": read.error}
        asked = self._model.compute(_Asked(read, served, category, "prediction", points))
        value = dict(await asyncio.wrap_future(asked))
        shown = read.cloud if served.parts is None else read.points
        if points and shown is not None:
            value["points"] = _plain(shown)
        if not points:
            value.pop("seg", None)
        return value

    async def embed(self, upload: Upload, served: ServedAdapter) -> dict[str, Any]:
        """What enters the head of a classifier for a shape, of norm one, as plain values.

        Raises:
            ConfigError: the adapter is for part segmentation.
        """
        if served.parts is not None:
            raise ConfigError(
                f"adapter {served.name!r} has features of points, not of shapes: ask one for "
                "classification"
            )
        read = await self._read(upload, served)
        if read.error is not None:
            return {"file": upload.name, "error": read.error}
        asked = self._model.compute(_Asked(read, served, None, "feature"))
        feature = (await asyncio.wrap_future(asked)).tolist()
        return {
            "file": upload.name, "feature": feature, "warnings": list(read.warnings), "error": None
        }  # fmt: skip

    async def _read(self, upload: Upload, served: ServedAdapter) -> ReadShape:
        read = self.readers.read(
            upload, served.transform, served.statistics, served.parts is not None
        )
        return await asyncio.wrap_future(read)

    # --- in the thread of the model -------------------------------------------------------------

    def _compute(self, asked: Sequence[_Asked]) -> list[Any]:
        """Answers in their order; clouds of one trunk, size and purpose are a batch."""
        groups: dict[Any, list[int]] = defaultdict(list)
        answers: dict[int, Any] = {}
        for place, one in enumerate(asked):
            assert one.read.cloud is not None
            on = one.served.key if one.wants == "feature" else one.served.model.base_hash
            own_batch = place if one.served.alone else None
            groups[one.wants, on, len(one.read.cloud), own_batch].append(place)
        for (wants, *_), places in groups.items():
            some = [asked[place] for place in places]
            made = self._predictions(some) if wants == "prediction" else _features(some)
            answers.update(zip(places, made, strict=True))
            self.batches, self.clouds = self.batches + 1, self.clouds + len(some)
        return [answers[place] for place in range(len(asked))]

    @torch.no_grad()
    def _predictions(self, asked: Sequence[_Asked]) -> list[dict[str, Any]]:
        """Predictions of a batch in which every cloud may have an adapter of its own on a trunk."""
        model, device = asked[0].served.model, self._adapters.device
        points = _stacked(asked).to(device)
        category = torch.tensor([one.category or 0 for one in asked], device=device)
        served = {one.served.key: one.served for one in asked}
        compared = [key for key, one in served.items() if one.familiarity is not None]
        keys = [one.served.key for one in asked]
        found = model.trunk.tokenize(points)
        made = mixed_outputs(model.trunk, model.adapters, found, keys, category, compared)
        near = {key: _near(served[key], query) for key, query in made.queries.items()}
        nothing = repeat((None, ()))
        return [
            _of_class(one, row, *next(near.get(one.served.key, nothing)))
            if one.served.parts is None
            else _of_parts(one, row, category[place : place + 1])
            for place, (one, row) in enumerate(zip(asked, made.logits, strict=True))
        ]


def _near(served: ServedAdapter, query: torch.Tensor) -> Iterator[tuple[float | None, Any]]:
    """How unusual the clouds of frozen features ``(b, C)`` are, and training shapes near them."""
    assert served.familiarity is not None
    return zip(served.familiarity.unusual(query), served.familiarity.nearest(query), strict=True)


def _stacked(asked: Sequence[_Asked]) -> torch.Tensor:
    return torch.from_numpy(np.stack([one.read.cloud for one in asked]))  # type: ignore[misc]


def _features(asked: Sequence[_Asked]) -> list[Any]:
    """What enters the head for clouds of one adapter, of norm one as in an index."""
    found = model_outputs(asked[0].served.adapter, _stacked(asked)).features
    return list(found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12))


def _of_class(one: _Asked, logits: torch.Tensor, unusual: float | None, nearest: Any) -> Any:
    served = one.served
    probabilities = (logits.float() / served.adapter.temperature).softmax(0).tolist()
    ready = ReadyFile(one.read.file, one.read.cloud, one.read.warnings)
    value = prediction_value(ranked(ready, served.class_names, probabilities, unusual, nearest))
    if one.points:
        for told, neighbor in zip(value["nearest"], nearest, strict=True):
            known = neighbor.points
            told["points"] = None if known is None else _plain(known[:_SKETCH])
    return value


def _plain(points: np.ndarray) -> list[list[float]]:
    return points.astype(np.float64).round(_DECIMALS).tolist()


def _of_parts(one: _Asked, logits: torch.Tensor, category: torch.Tensor) -> dict[str, Any]:
    served = one.served
    assert served.parts is not None
    assert served.mask is not None
    assert one.read.nearest is not None
    seg = likeliest_parts(logits[None], category, served.mask)[0].cpu().numpy()[one.read.nearest]
    name = served.class_names[int(category)]
    shares = [
        {"part": served.parts.names[part], "share": float((seg == part).mean())}
        for part in served.parts.categories[name]
    ]
    return {
        "file": one.read.file, "category": name, "parts": shares, "seg": seg.tolist(),
        "warnings": list(one.read.warnings), "error": None,
    }  # fmt: skip
