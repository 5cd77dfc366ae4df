"""Predictions of classes, as people, programs and files of results have them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pointpeft.data.streaming import default_workers
from pointpeft.errors import ConfigError
from pointpeft.formats import percent
from pointpeft.measure.predictor import Prediction, Predictor
from pointpeft.measure.result_files import ResultFile
from pointpeft.peft.saving import adapter_digest, resolve_adapter
from pointpeft.tasks.shown import Outcome, Predicted
from pointpeft.tasks.task import PredictOptions

__all__ = ["predict_classes", "prediction_value"]

_COLUMNS = ("file", "class", "probability", "next", "unusual", "nearest")


def predict_classes(
    folder: Path, files: list[Path], options: PredictOptions, **adapter: Any
) -> Predicted:
    """Classify files; arguments are those of :meth:`pointpeft.tasks.task.Task.predict`."""
    results = None
    if options.output is not None:
        mark = adapter_digest(resolve_adapter(folder), adapter.get("up_axis"))
        results = ResultFile.prepare(options.output, mark, options.resume)
        files = [file for file in files if str(file) not in results.done]
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
