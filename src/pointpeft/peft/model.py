"""A frozen model and the adapters on it, of which one is active at a time."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.models import Encoded, ModelSpec, Network, build_classifier, state_hash
from pointpeft.models.heads import Classifier
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.models.registry import build_segmenter
from pointpeft.models.trunk import Tokenized, Trunk
from pointpeft.peft.adapter import Adapter
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.hugging_face import from_theirs
from pointpeft.peft.method import PeftConfig, Tuner
from pointpeft.peft.mixed_batches import mixed_outputs
from pointpeft.peft.saving import save_adapter
from pointpeft.peft.sharing import frozen_view
from pointpeft.pretrained import PretrainedAdapter

if TYPE_CHECKING:
    from pointpeft.data import InputTransform, PartTable

__all__ = ["PeftModel", "get_peft_model"]

_NAME = re.compile(r"[\w-]+")


class _OfActive:
    """An attribute of the active adapter."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: "PeftModel", owner: type) -> Any:
        return getattr(model.adapter, self.name)

    def __set__(self, model: "PeftModel", value: object) -> None:
        setattr(model.adapter, self.name, value)


class PeftModel(PretrainedAdapter, nn.Module):
    """A frozen model and any number of adapters on it; see :func:`get_peft_model`.

    No adapter changes the frozen model, and none has a copy of what it does not train: switching is
    free, and memory grows by what an adapter trains and adds. The adapters may be of different
    methods, and have different classes.

    Args:
        base: an encoder, or a classification or part-segmentation model, which is left as it is and
            whose memory is shared.

    Raises:
        ConfigError: ``base`` is none of these.

    Attributes:
        base: the frozen model, a view of the one that was given.
        base_hash: identity of its encoder, see :func:`pointpeft.models.state_hash`.
        adapters: by name, see :class:`pointpeft.peft.adapter.Adapter`. What is known of the active
            one is read and set on the model itself: ``model``, ``tuner``, ``config``,
            ``class_names``, ``parts``, ``input``, ``bank``, ``task``, ``license``,
            ``data_license``, ``sizes``, ``base_spec``, ``base_checkpoint``, and ``describe``.
        active: name of the adapter that acts; None where there is none, or the one that did was
            deleted.
    """

    model: Network = _OfActive()  # type: ignore[assignment]
    tuner: Tuner = _OfActive()  # type: ignore[assignment]
    config: PeftConfig = _OfActive()  # type: ignore[assignment]
    class_names: tuple[str, ...] | None = _OfActive()  # type: ignore[assignment]
    parts: dict[str, Any] | None = _OfActive()  # type: ignore[assignment]
    input: dict[str, Any] | None = _OfActive()  # type: ignore[assignment]
    bank: MemoryBank | None = _OfActive()  # type: ignore[assignment]
    task: str = _OfActive()  # type: ignore[assignment]
    license: str | None = _OfActive()  # type: ignore[assignment]
    data_license: str | None = _OfActive()  # type: ignore[assignment]
    sizes: dict[str, int | None] = _OfActive()  # type: ignore[assignment]
    base_spec: ModelSpec = _OfActive()  # type: ignore[assignment]
    base_checkpoint: str | None = _OfActive()  # type: ignore[assignment]
    describe: Any = _OfActive()

    def __init__(self, base: Trunk | Network) -> None:
        super().__init__()
        if not isinstance(base, Trunk | Network):
            raise ConfigError(f"`base` must be made by create_model, got {type(base).__name__}")
        self.base = frozen_view(base)
        self.base_hash = state_hash(self.trunk)
        self.adapters = nn.ModuleDict()
        self.active: str | None = None
        self._disabled = False

    @property
    def trunk(self) -> Trunk:
        """The frozen encoder."""
        return self.base.core

    @property
    def adapter(self) -> Adapter:
        """The active adapter.

        Raises:
            ConfigError: there is none.
        """
        if self.active is None:
            known = ", ".join(self.adapters) or "none"
            raise ConfigError(f"no adapter is active: call set_adapter; adapters: {known}")
        return self.adapters[self.active]  # type: ignore[return-value]

    def add_adapter(
        self,
        name: str,
        config: PeftConfig,
        bank: MemoryBank | None = None,
        num_classes: int | None = None,
        num_parts: int | None = None,
    ) -> Adapter:
        """Add an untrained adapter; the first one becomes active.

        Args:
            name: letters, digits, ``-`` and ``_``; not a name that torch needs, such as "train".
            config: settings of its method.
            bank: memory bank built from the frozen encoder, for methods that use one.
            num_classes: classes, or categories of a part-segmentation model. None: those of the
                frozen model, whose head it begins with.
            num_parts: parts, for part segmentation.

        Raises:
            ConfigError: the name is taken or malformed, or sizes are neither given nor known.
        """
        self._check_name(name)
        if type(config).__module__.startswith("peft."):
            config = from_theirs(config)
        if not isinstance(config, PeftConfig):
            raise ConfigError(f"`config` must be settings such as LinearConfig(), got {config!r}")
        if bank is not None and not isinstance(bank, MemoryBank):
            raise ConfigError(f"`bank` must be a MemoryBank, got {type(bank).__name__}")
        network = self._network(num_classes, num_parts)
        adapter = Adapter(network, config, bank, self.base_hash)
        dtype = next(self.trunk.parameters()).dtype
        if dtype != torch.float32:  # a bank keeps its own precision beside float32
            adapter.to(dtype)
        self.adapters[name] = adapter.train(self.training)
        self.set_adapter(self.active or name)
        return adapter

    def _check_name(self, name: str) -> None:
        """Refuse a name that no adapter can have."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"`name` {name!r} must be letters, digits, - and _")
        if name in self.adapters:
            known = ", ".join(self.adapters)
            raise ConfigError(f"`name` {name!r} is taken: pass another one; adapters: {known}")
        if hasattr(self.adapters, name):
            raise ConfigError(f"`name` {name!r} is one that torch needs: pass another one")

    def _network(self, num_classes: int | None, num_parts: int | None) -> Network:
        """A frozen model for an adapter: the one that there is, or a fresh one on its encoder."""
        for key, count in {"num_classes": num_classes, "num_parts": num_parts}.items():
            if count is not None and (type(count) is not int or count < 1):
                raise ConfigError(f"`{key}` must be a whole number of at least 1, got {count!r}")
        if num_classes is None and num_parts is None:
            if isinstance(self.base, Trunk):
                raise ConfigError("`num_classes` (and `num_parts`) are needed: the base is no model"
                                  " with a head, but an encoder")  # fmt: skip
            return self.base
        trunk = self.trunk
        network: Network
        if num_parts is None:
            network = build_classifier(trunk, num_classes or 0)
        else:
            network = build_segmenter(trunk, num_parts, num_classes or 1)
        return network.to(next(trunk.parameters()).device)

    def set_adapter(self, name: str) -> None:
        """Make an adapter the active one; its parameters alone are to be trained.

        Raises:
            ConfigError: there is no such adapter.
        """
        self._check_known(name)
        self.active = name
        for each, adapter in self.adapters.items():
            adapter.ask_gradients(each == name)  # type: ignore[operator]

    def delete_adapter(self, name: str) -> None:
        """Remove an adapter; if it was active, none is until :meth:`set_adapter`.

        Raises:
            ConfigError: there is no such adapter.
        """
        self._check_known(name)
        del self.adapters[name]
        if self.active == name:
            self.active = None

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within the block the model is the frozen one, bit for bit, whichever adapter is active.

        It returns what ``base(points)`` does: logits of its own head, or of a mere encoder tokens
        and centers.
        """
        before, self._disabled = self._disabled, True
        try:
            yield
        finally:
            self._disabled = before

    def merge_adapter(self) -> Network:
        """A plain model that computes what the active adapter does, with weights of its own.

        Raises:
            ConfigError: the method adds layers, which no model without them can stand for.
        """
        if not self.adapter.mergeable:
            adds = "a head on all blocks" if self.config.head == "lda" else "layers to the encoder"
            name = self.config.method
            raise ConfigError(f"method {name!r} adds {adds}, so the adapter cannot be merged")
        return self.tuner.merged(self.model).requires_grad_(True)

    def _check_known(self, name: str) -> None:
        if not isinstance(name, str) or name not in self.adapters:
            known = list(self.adapters)
            raise ConfigError(
                f"no adapter {name!r}: {nearest_hint(str(name), known)}adapters: "
                f"{', '.join(known) or 'none'}"
            )

    def forward(
        self,
        points: Tensor | Tokenized,
        query: Tensor | None = None,
        exclude: Tensor | None = None,
        category: Tensor | None = None,
        features: Tensor | Tokenized | None = None,
    ) -> Tensor | Encoded:
        """Logits ``(B, classes)`` of ``points (B, N, 3)``, or part logits ``(B, N, parts)``.

        Args:
            points: clouds prepared like the training data, or what is known of them.
            query: retrieval features ``(B, C)`` of the same clouds; computed by the frozen
                encoder when absent and needed.
            exclude: ``(B,)`` bank position of each cloud itself, -1 for none; used in training
                by methods that leave the item itself out of its own retrieval.
            category: numbers of the clouds' categories ``(B,)``, for part segmentation alone.
            features: what the head is given for these clouds, ``(B, F)`` or that of a segmenter,
                where it is known and cannot change, see :meth:`pointpeft.Tuner.known`.

        Raises:
            ConfigError: no adapter is active, or ``category`` is missing, not wanted, or not one
                number of a category for each cloud.
        """
        if not self._disabled:
            return self.adapter(points, query, exclude, category, features)
        if isinstance(self.base, PartSegmenter):
            return self.base(points, category)
        return self.base(points)

    @torch.no_grad()
    def forward_mixed(
        self,
        points: Tensor | Tokenized,
        adapters: Sequence[str],
        category: Tensor | None = None,
    ) -> list[Tensor]:
        """Logits of a batch in which every cloud has an adapter of its own, to predict with.

        What adapters leave as it is runs once for all clouds: the tokenizer, and below the first
        block that they change whatever they have in common, see
        :meth:`pointpeft.Tuner.frozen_pass`. The rest runs adapter by adapter. A cloud's logits
        are those that its adapter alone gives.

        Args:
            points: ``(B, N, 3)``, or what the frozen encoder's ``tokenize`` made of them.
            adapters: B names.
            category: numbers of the clouds' categories ``(B,)``, for adapters of part segmentation.

        Returns:
            For each cloud ``(classes,)`` or ``(N, parts)``: adapters differ in their numbers.

        Raises:
            ConfigError: an adapter is not known, there are not as many names as clouds, or the
                model is in train mode.
        """
        if not adapters:
            raise ConfigError("`adapters` must name an adapter for each cloud")
        found = self.trunk.tokenize(points)
        if len(adapters) != len(found):
            raise ConfigError(f"`adapters` has {len(adapters)} names for {len(found)} clouds")
        if self.training:
            raise ConfigError("a batch of several adapters is for prediction: call eval() first")
        for name in adapters:
            self._check_known(name)
        return mixed_outputs(self.trunk, self.adapters, found, adapters, category).logits

    def train(self, mode: bool = True) -> "PeftModel":
        """Train mode for what is trained; frozen modules stay in eval mode."""
        super().train(mode)
        self.base.eval()
        return self

    def set_bank(self, bank: MemoryBank, encoder: Trunk) -> None:
        """Give a model that was made without one, as of a released file, its memory bank.

        Args:
            bank: its features have as many channels as the encoder.
            encoder: the frozen encoder that made the bank; it makes the queries.

        Raises:
            ConfigError: the method has no use for a bank, or the bank does not fit.
        """
        self.tuner.set_bank(bank, encoder)

    def count_parameters(self) -> dict[str, int]:
        """Numbers of parameters under the active adapter: "total", "trainable", and both
        "_without_head"."""
        return self.adapter.count_parameters()

    def print_trainable_parameters(self) -> None:
        """Print how much is trained, with and without the head."""
        c = self.count_parameters()
        print(
            f"trainable parameters: {c['trainable']:,} of {c['total']:,} "
            f"({100 * c['trainable'] / c['total']:.2f} %); "
            f"without the head: {c['trainable_without_head']:,}"
        )

    def save_pretrained(
        self,
        folder: str | Path,
        class_names: Sequence[str] | None = None,
        input_transform: "InputTransform | None" = None,
        parts: "PartTable | None" = None,
    ) -> None:
        """Write the folder of the active adapter; see :func:`pointpeft.peft.saving.save_adapter`.

        With names and input transform, :class:`pointpeft.Predictor` and the command line can use
        the folder as it is.

        Args:
            folder: an adapter there is replaced in one step.
            class_names: names of the classes in the order of the logits, or of the categories.
                None: ``class_names`` of the adapter.
            input_transform: how clouds were prepared, for instance
                ``InputTransform(num_points=1024, normalize="unit_ball", up_axis="y")``, or the
                ``transform`` of what :func:`pointpeft.load_shapes` returned. None: as in
                ``input`` of the adapter.
            parts: names and categories of the parts, for part segmentation, which also name the
                categories. None: ``parts`` of the adapter.

        Raises:
            ConfigError: there are more or fewer names than classes or parts, or a name occurs
                twice.

        Example:
            >>> model.save_pretrained("my_adapter", data.class_names, data.transform)
        """
        self.describe(class_names, input_transform, parts)
        save_adapter(self.adapter, folder)


def get_peft_model(
    model: Network, config: PeftConfig, bank: MemoryBank | None = None, name: str = "default"
) -> PeftModel:
    """Put a tuning method on a classification or part-segmentation model.

    Args:
        model: made by ``create_model`` with ``num_classes=...`` or ``num_parts=...``, weights
            already loaded. It is left as it is; what is frozen shares its memory.
        config: settings of the method, for instance ``PointPeftConfig(num_prompts=10)``.
        bank: memory bank built from the same encoder, for methods that use one; without it
            Point-PEFT learns its prompts alone.
        name: of the adapter; :meth:`PeftModel.add_adapter` adds others.

    Returns:
        The model with its unfrozen parameters chosen; train it like any module.

    Raises:
        ConfigError: ``model`` is for another task or already carries a method.
    """
    if isinstance(model, PeftModel | Adapter):
        raise ConfigError(
            f"model already carries the method {model.config.method!r}: call its add_adapter for a "
            "second one"
        )
    if not isinstance(model, Classifier | PartSegmenter):
        raise ConfigError(
            "model must be a classification or part-segmentation model: "
            "create_model(..., num_classes=...) or create_model(..., num_parts=...)"
        )
    tuned = PeftModel(model)
    tuned.training = model.training
    tuned.add_adapter(name, config, bank)
    return tuned
