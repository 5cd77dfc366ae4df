"""Linear probing: the head is trained on a frozen backbone."""

from dataclasses import dataclass

from torch import nn

from pointpeft.errors import ConfigError, check_choices
from pointpeft.models.heads import Classifier, class_token, is_of_head, linear_head
from pointpeft.models.network import Network
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.peft.all_blocks import pooled
from pointpeft.peft.frozen_pass import FrozenStreams
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
        if config.class_token and not class_token(model):
            raise ConfigError("class_token=True needs one, and this model has none: leave it out")

    def head(self, model: Classifier, num_classes: int) -> nn.Module:
        """The model's own, or a single layer."""
        if self.config.head == "linear":
            return linear_head(model.num_features, num_classes)
        return super().head(model, num_classes)

    def frozen_blocks(self, model: Network) -> int:
        """All of them."""
        return len(model.backbone.blocks)

    def known(self, model: Network, frozen: FrozenStreams) -> Constants:
        """All that the head is given."""
        blocks = self.frozen_blocks(model)
        if isinstance(model, PartSegmenter):
            return {"features": model.features([frozen[tap] for tap in model.taps])}
        assert isinstance(model, Classifier), "the other task"
        if self.config.head == "lda":
            return {"features": pooled(map(frozen.patches, range(blocks)))}
        return {"features": self.pool(model, self.finish(model.backbone, frozen[blocks - 1]))}

    def trains(self, name: str) -> bool:
        """The parameters of ``model.head``, and the class token if it is to be trained."""
        return name.startswith("model.head.") or (self.config.class_token and is_of_head(name))
