"""From a saved adapter and a file to a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pointpeft.data import read_shape
from pointpeft.errors import DataError
from pointpeft.measure.adapters import LoadedAdapter, list_shape_files

__all__ = ["Prediction", "Predictor"]

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
    """

    file: str
    label: str | None = None
    probability: float | None = None
    ranking: tuple[tuple[str, float], ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None


class Predictor(LoadedAdapter):
    """Classifies files with a saved adapter, preparing them as in its training.

    Arguments are those of :class:`LoadedAdapter`.

    Raises:
        ConfigError: the adapter is for part segmentation.
    """

    _segments = False

    def predict(self, files: Sequence[str | Path]) -> list[Prediction]:
        """Classify each file, and the files in each folder.

        One that cannot be read gives a prediction with its ``error``.
        """
        return [self.predict_file(file) for file in list_shape_files(files)]

    def predict_file(self, file: str | Path) -> Prediction:
        """Classify one mesh or scan."""
        try:
            shape = read_shape(file)
            prepared = self.prepare(shape)
        except DataError as error:
            return Prediction(str(file), error=str(error))
        points = torch.from_numpy(prepared.points[: self.transform.num_points])
        with torch.no_grad():
            logits = self.model(points.unsqueeze(0).to(self.device))[0]
        probabilities = (logits.float() / self.model.adapter.temperature).softmax(0).cpu()
        top = probabilities.topk(min(_TOP, len(self.class_names)))
        ranking = tuple(
            (self.class_names[i], p)
            for p, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        )
        return Prediction(str(file), *ranking[0], ranking, self.warnings(shape, prepared))
