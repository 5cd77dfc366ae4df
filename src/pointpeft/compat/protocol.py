"""The published protocol: what the papers' code does with data, epochs and measurements."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from pointpeft.compat.clouds import (
    load_as_published,
    load_unlabelled_as_published,
    prepare_as_published,
    published_recipe,
    whole_split,
)
from pointpeft.compat.names import PUBLISHED, extra_epochs, published_votes
from pointpeft.compat.pretraining import published_features
from pointpeft.compat.voting import EpochVotes, best_of_votes
from pointpeft.data import InputTransform, ShapeData, ShapeSplit
from pointpeft.data.benchmarks import BenchmarkSplit
from pointpeft.data.transforms import pool_size
from pointpeft.errors import ConfigError
from pointpeft.models import get_entry
from pointpeft.models.point_bert_pretraining import PointBERTPretraining
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.peft import find_method
from pointpeft.training.config import FinetuneConfig, PretrainConfig
from pointpeft.training.protocol import HONEST, Progress, Protocol, Run
from pointpeft.training.run_folder import RunFolder
from pointpeft.training.unlabelled import PretrainingData

__all__ = ["Published", "find_protocol"]


class Published(Protocol):
    """As the published code: epochs, and votes, are chosen on the test split itself.

    Published data sets are read as its loaders do. Rates and decay follow its rule, and what has a
    ``reference_compat`` of its own, Point-PEFT and most pre-training, is computed with its faults.
    """

    name = PUBLISHED
    notice = (
        "published protocol: the epoch is selected on the test split, so the accuracy is an upper "
        "bound"
    )
    selection = "test split (published protocol)"
    needed = ("test",)
    drop_last = True
    selects_on = "test"
    svm_normalize = "none"
    fallback = (
        "no published data set, so it is read as by protocol=honest; the epoch is selected on its "
        "test split as published"
    )

    features = staticmethod(published_features)
    extra_epochs = staticmethod(extra_epochs)
    read = staticmethod(load_as_published)
    augmentation = staticmethod(published_recipe)
    votes = staticmethod(best_of_votes)

    def resolve(self, config: Run) -> Run:
        """With the published rule, and with faults unless ``reference_compat`` is stated.

        Raises:
            ConfigError: the model or the method is unknown.
        """
        config = replace(config, optimizer=replace(config.optimizer, rule=PUBLISHED))
        if isinstance(config, PretrainConfig):
            objective = get_entry(config.model).pretraining_config
            config.pretraining = _with_faults(config.pretraining, objective)
        else:
            assert config.method is not None, "chosen by whoever knows the task"
            config.peft = _with_faults(config.peft, find_method(config.method))
        return config

    def read_unlabelled(
        self, config: PretrainConfig, num_points: int, progress: Progress = None
    ) -> PretrainingData | None:
        """With all their points, as stored; None where the source is no published data set."""
        data, held_out = config.data, None
        train = load_unlabelled_as_published(data.source, data.variant, data.train_split, progress)
        if train is None:
            return None
        if config.validate_every is not None:
            held_out = load_unlabelled_as_published(data.source, data.variant, "test", progress)
        names = (data.augmentation, "none")
        augmentation, draw = (published_recipe(name, num_points, "pretraining") for name in names)
        return PretrainingData(train, augmentation, train.points.shape[1], held_out, draw, "test")

    def episode(
        self, train: BenchmarkSplit, test: BenchmarkSplit, transform: InputTransform
    ) -> tuple[ShapeSplit, ShapeSplit]:
        """With all their points; those of the test part in farthest-point order."""
        whole = whole_split(test, transform)
        ordered = prepare_as_published(whole, pool_size(transform.num_points))
        return whole_split(train, transform), ordered

    def in_order(self, split: ShapeSplit, num_points: int) -> ShapeSplit:
        """Those that its loaders left as in the file; other data is in order."""
        return prepare_as_published(split, num_points) if split.in_file_order else split

    def selecting(self, data: ShapeData) -> ShapeData:
        """The test split chooses."""
        return replace(data, val=data.test, selects_on="test")

    def criterion(self, headline: str) -> str:
        """The metric that is reported."""
        return headline

    def votes_in_training(
        self, config: FinetuneConfig, data: ShapeData, run: RunFolder
    ) -> EpochVotes | None:
        """Votes after good epochs, if the published code of the model casts some."""
        rule = published_votes(config.model).in_training
        if not config.votes or rule is None:
            return None
        num_points = data.transform.num_points
        return EpochVotes(rule, data.test, num_points, run, config.seed, extra_epochs(config))

    def svm_features(self, model: Pretrainable) -> Callable[[Tensor], Tensor] | None:
        """Those of the whole network, where it has some."""
        return model.contrasted_features if isinstance(model, PointBERTPretraining) else None


_PROTOCOLS = {protocol.name: protocol for protocol in (HONEST, Published())}


def find_protocol(name: str) -> Protocol:
    """The protocol that the setting ``protocol`` names.

    Raises:
        ConfigError: there is no such one.
    """
    if name not in _PROTOCOLS:
        raise ConfigError(f"protocol must be one of {', '.join(_PROTOCOLS)}, got {name!r}")
    return _PROTOCOLS[name]


def _with_faults(stated: dict[str, Any], settings: Any) -> dict[str, Any]:
    """Settings with the faults of the published code, where it has some, unless stated."""
    return {"reference_compat": True, **stated} if hasattr(settings, "reference_compat") else stated
