"""From a saved adapter and files to classes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointpeft.data.chunks import in_batches
from pointpeft.data.streaming import ReadyFile, stream_files
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.measure.familiarity import UNUSUAL_FROM, Familiarity, Neighbor
from pointpeft.measure.loaded_adapter import LoadedAdapter, list_shape_files
from pointpeft.measure.named_shapes import find_shapes
from pointpeft.peft.adapter import Adapter
from pointpeft.peft.mixed_batches import mixed_outputs

__all__ = ["Prediction", "Predictor", "ranked", "training_memory"]

_TOP = 3


@dataclass(frozen=True)
class Prediction:
    """Outcome for one file.

    Attributes:
        file: as it was named.
        label: predicted class, or None if the file cannot be read.
        probability: of that class, 0 to 1.
        ranking: the most probable classes with their probabilities, descending.
        warnings: what the reader noticed, and in what the input differs from the training data.
        error: why the file cannot be used, or None.
        unusual: the share of training shapes that are nearer to their nearest one than this shape
            is, 0 to 1: 0.5 is ordinary, 1 is farther off than any. None where the adapter
            remembers no training shapes.
        nearest: the training shapes that are most like this one, the nearest one first.
    """

    file: str
    label: str | None = None
    probability: float | None = None
    ranking: tuple[tuple[str, float], ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None
    unusual: float | None = None
    nearest: tuple[Neighbor, ...] = ()


class Predictor(LoadedAdapter):
    """Classifies files with a saved adapter, preparing them as in its training.

    Args:
        folder: as for :class:`LoadedAdapter`, as are those behind it.
        neighbors_from: the training data, by which the nearest shapes get their names.

    Raises:
        ConfigError: the adapter is for another task, or remembers no training shapes although
            their names are asked for.
        DataError: ``neighbors_from`` is unusable, or not the training data.
    """

    _task = "classification"

    def __init__(
        self, folder: str | Path, *given: Any, neighbors_from: str | None = None, **others: Any
    ) -> None:
        super().__init__(folder, *given, **others)
        self._familiarity = self._remembered(neighbors_from)
        # By the papers' code a cloud is something else in another batch.
        self._is_alone = self.model.tuner.depends_on_batch

    def predict(self, files: str | Path | Sequence[str | Path]) -> list[Prediction]:
        """Classify each file, and the files in each folder; or a single one of either.

        One that cannot be read gives a prediction with its ``error``. :meth:`stream` does the same
        for more files than fit into memory, or faster.
        """
        return list(self.stream(files))

    def predict_file(self, file: str | Path) -> Prediction:
        """Classify one mesh or scan."""
        (found,) = self._predict([file], 1, 0)
        return found

    def stream(
        self,
        files: str | Path | Sequence[str | Path],
        batch_size: int = 32,
        workers: int = 0,
    ) -> Iterator[Prediction]:
        """Predictions as they are made, in the order of the files.

        Args:
            files: meshes and scans, and folders of them; or one of these.
            batch_size: clouds that the model sees at once.
            workers: processes that read and prepare files; 0: this one does. A script that asks for
                some needs ``if __name__ == "__main__":`` around its commands.

        Raises:
            ConfigError: ``batch_size`` or ``workers`` is no such number.
            DataError: a folder holds no shape file, or a process has ended, as for lack of memory.
        """
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if type(value) is not int or value < least:
                raise ConfigError(f"`{name}` must be an integer of at least {least}, got {value!r}")
        return self._predict(list_shape_files(files), batch_size, workers)

    def _predict(
        self, files: Sequence[str | Path], batch_size: int, workers: int
    ) -> Iterator[Prediction]:
        ready = stream_files(files, self.transform, self.statistics, workers)
        return self.classify(ready, batch_size)

    def classify(self, ready: Iterable[ReadyFile], batch_size: int = 32) -> Iterator[Prediction]:
        """Predictions of files that are read and prepared, in their order, as they are made.

        Args:
            ready: by :func:`pointpeft.data.streaming.stream_files`, with the ``transform`` and
                ``statistics`` of this predictor.
            batch_size: clouds that the model sees at once.
        """
        for batch in in_batches(ready, 1 if self._is_alone else batch_size):
            clouds = [one.points for one in batch if one.points is not None]
            made = iter(self._outputs(np.stack(clouds)) if clouds else ())
            for one in batch:
                readable = one.points is not None
                yield ranked(one, self.class_names, *next(made)) if readable else _unreadable(one)

    @torch.no_grad()
    def _outputs(
        self, clouds: np.ndarray
    ) -> list[tuple[list[float], float | None, tuple[Neighbor, ...]]]:
        """Of each cloud of ``(B, N, 3)`` the probabilities, how unusual it is, and neighbours."""
        model, name, familiarity = self.model, self.model.active, self._familiarity
        assert name is not None, "what was loaded is active"
        found = model.trunk.tokenize(torch.from_numpy(clouds).to(self.device))
        made = mixed_outputs(
            model.trunk, model.adapters, found, [name] * len(found),
            compared=[name] if familiarity else [],
        )  # fmt: skip
        logits = torch.stack(made.logits).float()
        probabilities = (logits / model.adapter.temperature).softmax(1).tolist()
        if familiarity is None:
            return [(row, None, ()) for row in probabilities]
        query = made.queries[name]
        near = familiarity.unusual(query), familiarity.nearest(query)
        return list(zip(probabilities, *near, strict=True))

    def _remembered(self, neighbors_from: str | None) -> Familiarity | None:
        found = training_memory(self.model.adapter, self.folder, self.device)
        if neighbors_from is None:
            return found
        if found is None:
            raise ConfigError(
                f"the adapter in {self.folder} remembers no training shapes: leave "
                "`neighbors_from` out, or train it again"
            )
        variant = (self.model.input or {}).get("variant")
        seed = (self.split or {}).get("seed", 0)  # as in training, so that shapes are in the cache
        named = find_shapes(neighbors_from, self.trained, found.known, variant, seed)
        return replace(found, named=named)


def training_memory(adapter: Adapter, folder: Path, device: str) -> Familiarity | None:
    """What an adapter remembers of its training shapes; None where it remembers none.

    Args:
        adapter: with the names of its classes.
        folder: that it was loaded from.
        device: where the features are compared.

    Raises:
        CheckpointError: the memory is of another encoder.
    """
    names = adapter.class_names or ()
    bank = adapter.training_features
    if bank is None:
        bank = adapter.bank
    if bank is None or bank.has_prototypes:
        return None
    if bank.features.shape[0] != adapter.model.backbone.num_features:
        raise CheckpointError(f"the adapter in {folder} has features of another encoder")
    return Familiarity.of(bank.to(device), names)


def ranked(
    ready: ReadyFile,
    class_names: Sequence[str],
    probabilities: Sequence[float],
    unusual: float | None = None,
    nearest: tuple[Neighbor, ...] = (),
) -> Prediction:
    """The prediction that probabilities ``(classes,)`` of a readable file amount to."""
    order = np.argsort(-np.array(probabilities), kind="stable")[:_TOP]
    ranking = tuple((class_names[place], probabilities[place]) for place in order)
    warnings = ready.warnings
    if unusual is not None and unusual >= UNUSUAL_FROM:
        warnings = (*warnings, _far_off(unusual))
    return Prediction(ready.file, *ranking[0], ranking, warnings, None, unusual, nearest)


def _unreadable(ready: ReadyFile) -> Prediction:
    return Prediction(ready.file, error=ready.error)


def _far_off(unusual: float) -> str:
    others = "any" if unusual == 1 else f"{int(unusual * 1000) / 10:g} %"
    return (
        f"unlike the training shapes: it is farther from them than {others} of them from the "
        "nearest other one"
    )
