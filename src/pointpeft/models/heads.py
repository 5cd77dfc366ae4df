"""Classification: the head shared by the published models, and what has one."""

import abc
from collections.abc import Collection, Mapping

from torch import Tensor, nn

from pointpeft.errors import ConfigError
from pointpeft.models.layers import check_batch
from pointpeft.models.network import Network
from pointpeft.models.trunk import PLAIN, Method, Stream, Tokenized, Trunk

__all__ = [
    "Classifier",
    "class_token",
    "classification_head",
    "is_of_head",
    "linear_head",
]


class Classifier(Network, abc.ABC):
    """An encoder with a classification head.

    Args:
        backbone: the encoder.
        num_features: channels F that the head is given.
        num_classes: number of logits.

    Attributes:
        num_pooled: channels that :meth:`pool` returns; a method may give the head others.
    """

    task = "classification"

    def __init__(self, backbone: Trunk, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_features = self.num_pooled = num_features
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one with ``num_classes`` logits.

        Raises:
            ConfigError: there are no classes.
        """
        if num_classes < 1:
            raise ConfigError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.head = self.make_head(num_classes)

    def make_head(self, num_classes: int) -> nn.Module:
        """``(B, F) -> (B, classes)``."""
        return classification_head(self.num_features, num_classes)

    def before_filling(self, names: Collection[str]) -> None:
        """Take the form of weights that have a head of a single layer, as linear probing leaves.

        Args:
            names: of the weights.
        """
        if {name for name in names if name.startswith("head.")} == _LINEAR:
            self.head = linear_head(self.num_features, self.num_classes)

    def forward(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits ``(B, classes)``.

        Args:
            points: ``(B, N, 3)``, or what ``backbone.tokenize`` made of them.
            method: acts on the encoder.
            context: handed to the blocks.

        Raises:
            DataError: one cloud, and a BatchNorm of the head is being trained.
        """
        check_batch(self.head, points)
        return self.head(self.forward_features(points, method, context))

    def forward_features(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """What the head is given, ``(B, F)``; arguments as for the logits."""
        stream = method.finish(self.backbone, self.run(points, method, context))
        return method.pool(self, stream)

    @abc.abstractmethod
    def run(
        self,
        points: Tensor | Tokenized,
        method: Method = PLAIN,
        context: Mapping[str, Tensor] | None = None,
    ) -> Stream:
        """The stream behind the last block, before the norm; arguments as for the logits."""

    @abc.abstractmethod
    def pool(self, stream: Stream) -> Tensor:
        """One vector of normalised tokens, ``(B, F)``."""


def classification_head(
    in_features: int,
    num_classes: int,
    hidden: int = 256,
    dropout: float = 0.5,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """The three-layer head shared by the published models: ``(B, in_features) -> (B, classes)``."""
    return nn.Sequential(
        nn.Linear(in_features, hidden),
        nn.BatchNorm1d(hidden),
        activation(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        activation(),
        nn.Dropout(dropout),
        nn.Linear(hidden, num_classes),
    )


def linear_head(in_features: int, num_classes: int) -> nn.Sequential:
    """A head of a single layer: ``(B, in_features) -> (B, classes)``."""
    return nn.Sequential(nn.Linear(in_features, num_classes))


_LINEAR = {"head.0.weight", "head.0.bias"}
_OF_HEAD = ("head", "cls_token", "cls_pos")


def class_token(model: nn.Module) -> dict[str, Tensor]:
    """The class token of a model and its position, by their names; nothing if it has none."""
    return {name: p for name, p in model.named_parameters() if name in _OF_HEAD}


def is_of_head(name: str) -> bool:
    """Whether a parameter belongs to the head of a classification model or is its class token."""
    return any(part in _OF_HEAD for part in name.split("."))
