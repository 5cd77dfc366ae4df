"""What a tuning method is: a config, and a tuner that stands beside the trunk."""

import abc
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, nearest_hint
from pointpeft.files import with_tuples
from pointpeft.models.heads import Classifier, class_token
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.models.trunk import Method, Stream, Tokenized, Trunk
from pointpeft.ops._numerics import full_precision
from pointpeft.peft.all_blocks import AllBlocks
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.frozen_pass import (
    FrozenPass,
    FrozenStreams,
    behind,
    model_pass,
    resumed,
    retrieval_pass,
    retrieved,
    unrounded,
)

__all__ = ["Constants", "FittedConfig", "FittedTuner", "PeftConfig", "Tuner"]

Constants = dict[str, Tensor | Tokenized]
"""Arguments of an adapted model by name, see :meth:`Tuner.known`."""


@dataclass(frozen=True)
class PeftConfig:
    """Settings of a tuning method; sub-classes are frozen dataclasses that add fields.

    Attributes:
        method: the name by which the method is registered; every sub-class has its own.
        learning_rate: peak of the schedule, unless another one is asked for.
        fitted: whether it is fitted to features of the frozen encoder, instead of trained.
        head: of a classifier: "mlp", that of the model, or "lda", a linear rule on the tokens of
            all blocks that begins as linear discriminant analysis of the training shapes.

    Example:
        >>> @dataclass(frozen=True)
        ... class MyConfig(pp.PeftConfig):
        ...     method = "my-method"
        ...     rank: int = 8
    """

    method: ClassVar[str] = ""
    learning_rate: ClassVar[float] = 5e-4
    fitted: ClassVar[bool] = False
    heads: ClassVar[tuple[str, ...]] = ("mlp", "lda")  # that it can have

    head: str = field(default="mlp", kw_only=True)  # "lda": one on all blocks, fitted at first

    @property
    def uses_bank(self) -> bool:
        """Whether the method retrieves from a memory bank."""
        return False

    def resolve(self, backbone: Trunk) -> Self:
        """The settings with all that is left open decided for this backbone."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values, with the method's name; without the usual head."""
        settings = dataclasses.asdict(self)
        if settings["head"] == "mlp":
            del settings["head"]
        return {"method": self.method, **settings}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: a key is unknown; the message proposes the nearest valid one.
        """
        valid = [field.name for field in dataclasses.fields(cls)]
        if len(cls.heads) == 1:
            valid.remove("head")
        settings = {key: value for key, value in settings.items() if key != "method"}
        for key in settings:
            if key not in valid:
                known = ", ".join(valid) or "none"
                raise ConfigError(
                    f"method {cls.method!r} has no setting {key!r}: {nearest_hint(key, valid)}"
                    f"settings: {known}"
                )
        return cls(**with_tuples(settings))


@dataclass(frozen=True)
class FittedConfig(PeftConfig):
    """Settings of a method that is fitted to features of the frozen encoder."""

    fitted = True
    heads = ("mlp",)

    # "balanced": classes count alike, as class_weights=balanced of a run says; "none": shapes do
    class_weights: str = field(default="none", kw_only=True)

    def __post_init__(self) -> None:
        check_choices(self, ["class_weights"], ("none", "balanced"))

    @property
    def balanced(self) -> bool:
        """Whether classes count alike, however many shapes they have."""
        return self.class_weights == "balanced"


class Tuner(Method, abc.ABC):
    """A method attached to one model: its shared parameters and its rules.

    It stands beside the encoder and acts on every forward pass, see :class:`Method`. It must not
    change the encoder. What it adds, and what is trained, is saved with an adapter.

    Args:
        model: frozen classification or part-segmentation model whose ``backbone`` is to be adapted.
        config: settings of the method.

    Attributes:
        bank: what it retrieves from; None where it does not.
    """

    #: Keep frozen modules in eval mode during training, so that BatchNorm statistics stay put.
    freezes_statistics: bool = True

    #: Some trained parameters receive no gradient, which several processes have to know.
    leaves_idle: bool = False

    #: In evaluation too, what it gives for a cloud hangs on the others of its batch.
    depends_on_batch: bool = False

    #: It is made with a third argument, the memory bank, None where there is none.
    takes_bank: ClassVar[bool] = False

    #: Nothing is added to the model: with the trained values it is a plain one.
    mergeable: ClassVar[bool] = False

    #: Prefixes of what is made from the frozen encoder again, so neither stored nor counted.
    rebuilt: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: Network, config: PeftConfig) -> None:
        super().__init__()
        self.config = config
        self.bank: MemoryBank | None = None

    @staticmethod
    def features(trunk: Trunk, points: Tensor | Tokenized) -> Tensor:
        """What the method knows clouds by, ``(B, N, 3) -> (B, C)``: rows of a bank, and queries."""
        return trunk.retrieval_features(points)

    def frozen_features(self, trunk: Trunk, found: Tokenized) -> Tensor:
        """:meth:`features` of clouds as they are looked up, ``(B, C)``.

        Args:
            trunk: the frozen encoder, in eval mode.
            found: the clouds as it tokenized them.
        """
        return self.features(trunk, found)

    def lookup_pass(self, trunk: Trunk) -> FrozenPass | None:
        """The pass of which :meth:`frozen_features` are made; None: they are of another kind."""
        kind: Any = type(self)
        plain = (kind.features, kind.frozen_features) == (Tuner.features, Tuner.frozen_features)
        return retrieval_pass(trunk) if plain else None

    @abc.abstractmethod
    def trains(self, name: str) -> bool:
        """Whether the parameter ``name`` ("model.backbone...", "model.head...", "tuner...")."""

    def frozen_blocks(self, model: Network) -> int:
        """How many of the first blocks give what they gave, however the adapter is trained.

        A class token that is trained, which all blocks see, need not be thought of.
        """
        return 0

    def frozen_pass(self, model: Network) -> FrozenPass | None:
        """The pass through frozen blocks of which :meth:`known` is made; None: there is none."""
        blocks = self.frozen_blocks(model)
        trained = any(self.trains(f"model.{name}") for name in class_token(model))
        if not blocks or trained or not self.freezes_statistics:
            return None
        return model_pass(model, blocks)

    def known(self, model: Network, frozen: FrozenStreams) -> Constants:
        """What clouds give that no training of the adapter changes.

        They are named as the arguments of the adapted model that take them: ``query (B, C)``,
        ``features``, which the head is given, or ``points`` with all that is known of the clouds,
        by itself the streams behind all frozen blocks.

        Args:
            model: the adapted model.
            frozen: the streams that :meth:`frozen_pass` gave.
        """
        return {"points": behind(frozen, range(self.frozen_blocks(model)))}

    def looked_at(self, model: Network, frozen: FrozenStreams) -> Tokenized:
        """The same, without streams that neither the model nor its head looks at.

        For methods that have no use for them either.
        """
        blocks = self.frozen_blocks(model)
        places = set(range(blocks))
        if self.config.head != "lda":
            taps = model.taps if isinstance(model, PartSegmenter) else ()
            ends = [scale.blocks[-1] for scale in model.backbone.scales]
            places &= {*taps, *ends, blocks - 1}
        clouds = behind(frozen, sorted(places))
        return replace(clouds, tokens=clouds.tokens[:, :0])  # nothing begins with them

    def constants(self, model: Network, points: Tensor | Tokenized) -> Constants:
        """:meth:`known` of clouds ``(B, N, 3)``; nothing where there is no frozen pass.

        Where the same clouds come again, in validation or without augmentation, this is computed
        once, and a mixed batch makes the pass once for all adapters that have it in common.
        """
        wanted = self.frozen_pass(model)
        return {} if wanted is None else self.known(model, wanted(model.backbone.tokenize(points)))

    @property
    def acting(self) -> Method:
        """What acts on a forward pass: the method, and what the head on all blocks looks at."""
        return AllBlocks(self) if self.config.head == "lda" else self

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """One block, or what is known of the stream behind it."""
        known = resumed(place, stream)
        return super().block(place, block, stream) if known is None else known

    def attach(self, model: Network) -> None:
        """Place layers into an adapter's own view of the model, for methods that replace some."""

    def is_rebuilt(self, name: str) -> bool:
        """Whether the tensor ``name`` is made again when an adapter is loaded, so not stored."""
        return name.startswith(tuple(f"tuner.{prefix}" for prefix in self.rebuilt))

    def merged(self, model: Network) -> Network:
        """A plain model that computes what the adapted ``model`` does; see :attr:`mergeable`."""
        return copy.deepcopy(model)

    def save_extra(self, folder: Path) -> None:
        """Write what others read beside the files of an adapter."""

    def set_bank(self, bank: MemoryBank, encoder: Trunk) -> None:
        """See :meth:`pointpeft.peft.PeftModel.set_bank`."""
        raise ConfigError(f"{type(self).__name__} has no use for a memory bank")

    def logits(self, model: Network, found: Tokenized, context: dict, *category: Tensor) -> Tensor:
        """What the adapter gives: logits of the model, or of the method itself."""
        return model(found, *category, self.acting, context)

    def entered(self, model: Classifier) -> nn.Module:
        """The module whose input are the features that become logits, ``(B, F)``."""
        return model.head

    def context(self, found: Tokenized, query: Tensor | None, exclude: Tensor | None) -> dict:
        """Conditioning that blocks find in ``geometry.context``.

        Args:
            found: the clouds as the encoder tokenized them.
            query: see :meth:`pointpeft.PeftModel.forward`, as is ``exclude``.
            exclude: None outside of training.
        """
        return {}


class FittedTuner(Tuner):
    """A method that is fitted to features of the frozen encoder, at once.

    The head of the model has no part in it.

    Attributes:
        draws: samplings of each training shape that it learns from.
    """

    draws: int = 1

    def __init__(self, model: Network, config: PeftConfig) -> None:
        super().__init__(model, config)
        if model.task != "classification":
            raise ConfigError(f"method {config.method!r} is for classification, not {model.task}")
        self.entry = nn.Identity()

    def entered(self, model: Classifier) -> nn.Module:
        """Not the head of the model."""
        return self.entry

    def fitted_features(self, trunk: Trunk, points: Tensor | Tokenized) -> Tensor:
        """What the method is fitted to, ``(B, N, 3) -> (B, C)``."""
        return self.features(trunk, points)

    @property
    def _fits_query(self) -> bool:
        """Whether it is fitted to the features that shapes are looked up by."""
        kind: Any = type(self)
        found = kind.fitted_features, kind.frozen_features
        return found == (FittedTuner.fitted_features, Tuner.frozen_features)

    @abc.abstractmethod
    def fit(
        self, features: Tensor, labels: Tensor, ids: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Learn from training shapes.

        Args:
            features: as :meth:`fitted_features` gives them, ``(S, C)`` on the CPU.
            labels: ``(S,)``.
            ids: names of the shapes.

        Returns:
            What is worth recording, as plain values.
        """

    @abc.abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Logits of features, ``(B, C) -> (B, classes)``."""

    def frozen_pass(self, model: Network) -> FrozenPass | None:
        """That of the trunk alone; None for features of another kind."""
        return self.lookup_pass(model.backbone) if self._fits_query else None

    def known(self, model: Network, frozen: FrozenStreams) -> Constants:
        """The features that it is fitted to."""
        return {"query": retrieved(model.backbone, frozen)}

    def constants(self, model: Network, points: Tensor | Tokenized) -> Constants:
        """The same, also of features of another kind."""
        if self.frozen_pass(model) is not None:
            return super().constants(model, points)
        found = model.backbone.tokenize(points)
        with full_precision(found.points):
            features = self.fitted_features(model.backbone.eval(), unrounded(found))
        return {"points": replace(found, known={"features": features})}

    def context(self, found: Tokenized, query: Tensor | None, exclude: Tensor | None) -> dict:
        """The query, where it is known and the method is fitted to such features."""
        return {} if query is None or not self._fits_query else {"features": query}

    def logits(self, model: Network, found: Tokenized, context: dict, *category: Tensor) -> Tensor:
        """Those of the features, in full precision."""
        with full_precision(found.points):
            features = context.get("features")
            if features is None:
                features = self.fitted_features(model.backbone.eval(), unrounded(found))
            return self.classify(self.entry(features.float()))

    def trains(self, name: str) -> bool:
        """What is fitted, which is all that is stored."""
        return name.startswith("tuner.")

    def is_rebuilt(self, name: str) -> bool:
        """All of the model but the encoder."""
        return name.startswith("model.") and not name.startswith("model.backbone.")
