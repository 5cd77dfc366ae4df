"""A third task, as somebody else would write it: a number for every shape."""

from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from pointpeft.data import read_shape
from pointpeft.errors import DataError
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.models import build_classifier
from pointpeft.tasks.shown import Outcome, Predicted
from pointpeft.tasks.task import PredictOptions, Task
from pointpeft.tasks.tuning_module import TuningModule


class RegressionModule(TuningModule):
    """Squared error of the number that a class is called by."""

    validated: ClassVar = ("loss", "score")

    def training_step(self, batch, batch_index):
        found = self.model(self.augmentation(batch["points"]), exclude=batch["index"])[:, 0]
        loss = F.mse_loss(found, self.numbers[batch["label"]])
        self.log_training({"train_loss": loss}, len(found))
        return loss

    def validation_step(self, batch, batch_index):
        found = self.model(batch["points"])[:, 0]
        loss = (found - self.numbers[batch["label"]]).square()
        self.log_means({"loss": loss, "score": -loss}, batch["index"])


class Regression(Task):
    """Folders are called by numbers, such as the legs of a chair."""

    name, label, headline = "regression", "negative error", "score"

    def check(self, data, source):
        if not all(name.replace(".", "").isdecimal() for name in data.class_names):
            raise DataError(f"{source}: classes must be numbers")

    def network(self, backbone, data):
        return build_classifier(backbone, 1)

    def module(self, model, config, schedule, augmentation, data):
        module = RegressionModule(model, schedule, augmentation, data.selects_on)
        module.numbers = torch.tensor([float(name) for name in data.class_names])
        return module

    def measure(self, model, data, batch_size):
        splits = {"val": data.val, "test": data.test}
        return {f"{n}_score": self._score(model, data.class_names, s) for n, s in splits.items()}

    def evaluate(self, adapter, data, part, split, batch_size):
        return {f"{split}_score": self._score(adapter.model, adapter.class_names, part)}, None

    def _score(self, model, names, split):
        numbers = np.array([float(name) for name in names])
        error = numbers[split.labels] - self._numbers(model, torch.from_numpy(split.points))
        return -float(np.square(error).mean())

    @torch.no_grad()
    def _numbers(self, model, points):
        count = model.input["transform"]["num_points"]
        return model.eval()(points[:, :count])[:, 0].numpy()

    def predict(self, folder, files, options=PredictOptions(), **adapter):  # noqa: B008
        self.refuse_options(folder, options, "category", "output", "resume", "neighbors_from")
        loaded = LoadedAdapter(folder, **adapter)
        found = (self._outcome(loaded, file) for file in files)
        return Predicted(found, ("file", "number"), len(files), loaded.notes)

    def _outcome(self, loaded, file):
        prepared = loaded.prepare(read_shape(file))
        (number,) = self._numbers(loaded.model, torch.from_numpy(prepared.points)[None])
        value = {"file": str(file), "number": float(number)}
        return Outcome(str(file), value, [(str(file), f"{number:.3f}")])
