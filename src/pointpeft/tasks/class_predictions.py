"""Predictions of classes, as people, programs and files of results have them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointpeft import __version__
from pointpeft.data.chunks import default_workers
from pointpeft.data.corpus import FileList, ListedFile
from pointpeft.data.streaming import ReadyFile
from pointpeft.errors import ConfigError
from pointpeft.files import finite
from pointpeft.formats import percent
from pointpeft.measure.corpus import RowMaker
from pointpeft.measure.predictor import Prediction, Predictor
from pointpeft.measure.result_files import ResultFile, result_schema
from pointpeft.peft.saving import adapter_digest, resolve_adapter
from pointpeft.tasks.shown import Outcome, Predicted
from pointpeft.tasks.task import PredictOptions

__all__ = ["PredictRows", "predict_classes", "prediction_value"]

_COLUMNS = ("file", "class", "probability", "next", "unusual", "nearest")


def predict_classes(
    folder: Path, files: list[Path], options: PredictOptions, **adapter: Any
) -> Predicted:
    """Classify files; arguments are those of :meth:`pointpeft.tasks.task.Task.predict`."""
    results = None
    if options.output is not None:
        mark = _mark(folder, adapter.get("up_axis"), options.neighbors_from)
        results = ResultFile.prepare(options.output, mark, options.resume)
        results.refuse_changed(files)
        files = [file for file in files if not results.has(file)]
    elif options.resume:
        raise ConfigError("`resume` goes on with a file of results: name it as `output`")
    predictor = Predictor(folder, neighbors_from=options.neighbors_from, **adapter)
    workers = default_workers(len(files)) if options.workers is None else options.workers
    found: Iterable[Prediction] = predictor.stream(files, options.batch_size or 32, workers)
    if results is not None:
        found = results.written(found, prediction_value)
    return Predicted(
        map(_outcome, found),
        _COLUMNS,
        len(files),
        predictor.notes,
        results.path if results else None,
        len(results.done) if results else 0,
        results.failed if results else 0,
    )


def _mark(folder: Path, up_axis: str | None, neighbors_from: str | None) -> str:
    """A hash of all that a row hangs on besides its file."""
    named = () if neighbors_from is None else (neighbors_from,)
    return adapter_digest(resolve_adapter(folder), up_axis, *named)


@dataclass(frozen=True)
class PredictRows:
    """The rows that predictions of a corpus are, for :func:`pointpeft.measure.corpus.make_corpus`.

    Attributes:
        folder: adapter or run folder.
        batch_size: clouds that the model sees at once.
        neighbors_from: the training data, to name its shapes.
        checkpoint: weights of the encoder, if not where the adapter says.
        up_axis: axis of the files that points up, if not as in training.
    """

    folder: Path
    batch_size: int = 32
    neighbors_from: str | None = None
    checkpoint: str | Path | None = None
    up_axis: str | None = None

    def load(self, device: str) -> "_Rows":
        """The predictor; errors are those of :class:`Predictor`."""
        return _Rows(self, device)


class _Rows(RowMaker):
    """Makes rows with the columns of :data:`pointpeft.measure.result_files.COLUMNS`."""

    def __init__(self, work: PredictRows, device: str) -> None:
        self._mark = _mark(work.folder, work.up_axis, work.neighbors_from)
        self._predictor = Predictor(
            work.folder, work.checkpoint, work.up_axis, device, neighbors_from=work.neighbors_from
        )
        self._batch_size = work.batch_size
        self.transform, self.statistics = self._predictor.transform, self._predictor.statistics
        self.notes = self._predictor.notes
        self.made_by = {
            "kind": "classes", "adapter": adapter_digest(resolve_adapter(work.folder)),
            "up_axis": work.up_axis, "neighbors_from": work.neighbors_from, "version": __version__,
        }  # fmt: skip
        self.schema = result_schema()

    def rows(self, ready: Iterable[ReadyFile]) -> Iterator[dict[str, Any]]:
        for one in self._predictor.classify(ready, self._batch_size):
            yield finite(prediction_value(one) | {"adapter": self._mark})

    def named(self, one: ListedFile, files: FileList) -> dict[str, Any]:
        return {}  # a row has its file


def _outcome(one: Prediction) -> Outcome:
    return Outcome(one.file, prediction_value(one), _rows(one), one.warnings, one.error)


def _rows(one: Prediction) -> list[tuple[str, ...]]:
    if one.error is not None:
        return []
    following = ", ".join(f"{name} {percent(value)}" for name, value in one.ranking[1:])
    unusual = "-" if one.unusual is None else f"{one.unusual:.2f}"
    near = ", ".join(
        f"{each.name or each.label or each.id} {each.similarity:.2f}" for each in one.nearest
    )
    return [(one.file, str(one.label), percent(one.probability), following, unusual, near or "-")]


def prediction_value(one: Prediction) -> dict[str, Any]:
    """A prediction as plain values for JSON."""
    return {
        "file": one.file,
        "class": one.label,
        "probability": one.probability,
        "ranking": [{"class": name, "probability": p} for name, p in one.ranking],
        "warnings": list(one.warnings),
        "error": one.error,
        "unusual": one.unusual,
        "nearest": [
            {
                "class": each.label,
                "similarity": each.similarity,
                "id": each.id,
                "name": each.name,
            }
            for each in one.nearest
        ],
    }
