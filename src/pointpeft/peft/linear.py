"""Linear probing: the head is trained on a frozen backbone."""

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices
from pointpeft.models.heads import Classifier, class_token_bytes, is_of_head, linear_head
from pointpeft.models.network import Network
from pointpeft.models.trunk import Tokenized
from pointpeft.peft.method import Constants, PeftConfig, Tuner

__all__ = ["LinearConfig", "LinearTuner"]


@dataclass(frozen=True)
class LinearConfig(PeftConfig):
    """Settings of linear probing.

    PCP-MAE (Zhang et al., NeurIPS 2024) calls it "mlp3" with the model's own head and "linear" with
    one of a single layer; its code trains the class token in both.
    """

    method = "linear"
    learning_rate = 2e-3
    heads = ("mlp", "linear", "lda")

    head: str = "mlp"  # the model's own; "linear": a single layer; "lda": on all blocks
    class_token: bool = False  # train the class token as well, which every block sees
    reference_compat: bool = False  # BatchNorms and stochastic depth act, as in PCP-MAE's code

    def __post_init__(self) -> None:
        check_choices(self, ["head"], self.heads)
        check_choices(self, ["class_token", "reference_compat"], (True, False))


class LinearTuner(Tuner):
    """Trains the head, and the class token if asked to, which else stays at its random start."""

    mergeable = True

    config: LinearConfig

    def __init__(self, model: Network, config: LinearConfig) -> None:
        super().__init__(model, config)
        if config.head == "linear" and model.task != "classification":
            raise ConfigError(f"head=linear is for classification, not {model.task}")
        if config.class_token and "cls_token" not in dict(model.named_parameters()):
            raise ConfigError("class_token=True needs one, and this model has none: leave it out")

    def head(self, model: Classifier, num_classes: int) -> nn.Module:
        """The model's own, or a single layer."""
        if self.config.head == "linear":
            return linear_head(model.num_features, num_classes)
        return super().head(model, num_classes)

    def constants(self, model: Network, points: Tensor | Tokenized) -> Constants:
        """Of a classifier, all that its head is given, where that stays as it is."""
        if not isinstance(model, Classifier) or not self._is_fixed:
            return {}
        return {"features": model.forward_features(points, self.acting)}

    def constants_key(self, model: Network) -> tuple[str, Hashable] | None:
        """The same with equal class tokens."""
        if not isinstance(model, Classifier) or not self._is_fixed:
            return None
        return "features", (type(self), self.config.head == "lda", class_token_bytes(model))

    @property
    def _is_fixed(self) -> bool:
        return self.freezes_statistics and not self.config.class_token

    def trains(self, name: str) -> bool:
        """The parameters of ``model.head``, and the class token if it is to be trained."""
        return name.startswith("model.head.") or (self.config.class_token and is_of_head(name))
