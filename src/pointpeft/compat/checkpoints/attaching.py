"""Point-PEFT put on a network as a published checkpoint asks for it."""

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import Any

from pointpeft.compat.checkpoints.bank_files import Beside
from pointpeft.compat.checkpoints.checkpoint_reader import Shapes, head_sizes, known_sizes
from pointpeft.errors import CheckpointError
from pointpeft.models.checkpoint import Checkpoint, LoadReport, fill
from pointpeft.models.heads import Classifier
from pointpeft.models.loadable import Loadable
from pointpeft.models.trunk import Trunk
from pointpeft.peft.model import PeftModel, get_peft_model
from pointpeft.peft.point_peft import PointPeftConfig

__all__ = ["attach", "fill_tuned"]

log = logging.getLogger("pointpeft")


def attach(
    model: Loadable, checkpoint: Checkpoint, settings: Mapping[str, Any], reset_head: bool = False
) -> tuple[PeftModel, LoadReport]:
    """Put Point-PEFT as published on a fresh classifier, and fill it from a checkpoint.

    The memory bank and the encoder that makes its queries are looked for beside the file.

    Args:
        model: made by ``create_model``.
        checkpoint: the file.
        settings: of the method, over those that the file shows or states.
        reset_head: leave the head as it is.

    Raises:
        CheckpointError: ``model`` has no classification head, or its encoder is another one, or
            what lies beside the file is not of it.
        ConfigError: a setting is unknown.
    """
    tuned, report = fill_tuned(model, checkpoint, settings, reset_head)
    found = Beside.of(checkpoint)
    if not found.missing:
        return found.complete(tuned)[1], report
    log.warning(
        "%s: nothing is retrieved until set_bank is called, as beside the file there is no %s",
        checkpoint.source, found.missing,
    )  # fmt: skip
    return tuned, report


def fill_tuned(
    model: Loadable, checkpoint: Checkpoint, settings: Mapping[str, Any], reset_head: bool = False
) -> tuple[PeftModel, LoadReport]:
    """:func:`attach` without a memory bank."""
    state = checkpoint.state
    if not isinstance(model, Classifier):
        count = head_sizes(state).get("num_classes", "so many")
        raise CheckpointError(
            f"{checkpoint.source} ({checkpoint.title}) holds a classifier: pass "
            f"num_classes={count}, and the preset that it was trained with"
        )
    _pool_all(model.backbone)
    own = {f"backbone.{name}" for name in model.backbone.state_dict()}
    encoder = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    encoder = {name: tensor for name, tensor in encoder.items() if name in own}
    fill(model.backbone, dataclasses.replace(checkpoint, state=encoder))
    config = _config(model.backbone, checkpoint, settings)
    tuned = get_peft_model(model, config)
    stated = {*checkpoint.metadata.get("method", {}), *settings}
    config = config.resolve(model.backbone)
    _say_assumed(checkpoint, config, stated, len(model.backbone.scales) > 1)
    return tuned, fill(tuned.adapter, checkpoint, reset_head)


def _config(
    backbone: Trunk, checkpoint: Checkpoint, settings: Mapping[str, Any]
) -> PointPeftConfig:
    """The published computation: as the tensors show, as a file of ours states, as is asked."""
    places = [scale.blocks[0] for scale in backbone.scales]
    size = Shapes(checkpoint.state).size

    def widths(adapter: str) -> object:
        """Width of a bottleneck: one, or one per scale where they differ."""
        found = tuple(size(f"tuner.blocks.{place}.{adapter}.ln1.weight") for place in places)
        return found if len(set(found)) > 1 else found[0]

    shown = known_sizes(
        num_prompts=size("tuner.prompt_centers"),
        adapter_dim=widths("adapter"),
        output_adapter_dim=widths("output_adapter"),
        bank_adapter_dim=size(f"tuner.blocks.{places[-1]}.bank_adapter.ln1.weight"),
        attention_dim=size("tuner.scales.0.local_attention.proj.weight", 1),
    )
    if shown.get("output_adapter_dim") == shown.get("adapter_dim"):
        shown.pop("output_adapter_dim", None)
    stated = checkpoint.metadata.get("method", {})
    return PointPeftConfig.from_dict({**stated, **shown, **settings, "reference_compat": True})


_UNTRACED = ("group_pooling", "center_coefficient", "propagation_coefficient")
"""Settings that leave no trace in the tensors; on one scale published code fixes them."""


def _say_assumed(
    checkpoint: Checkpoint, config: PointPeftConfig, stated: Collection[str], several: bool
) -> None:
    names = (*(_UNTRACED if several else ()), "attention_heads")
    assumed = [f"{name}={getattr(config, name)}" for name in names if name not in stated]
    log.warning(
        "%s: computing as published (reference_compat=True), faults included%s",
        checkpoint.source,
        f". The file does not show, and so it is assumed: {', '.join(assumed)}; pass others as "
        "settings of `peft`, and the heads as num_heads of the encoder" if assumed else "",
    )  # fmt: skip


def _pool_all(backbone: Trunk) -> None:
    """Where published Point-M2AE leaves a token out of the maximum, its Point-PEFT does not."""
    if getattr(backbone.config, "pooling", None) == "concat":
        backbone.config = dataclasses.replace(backbone.config, pooling="concat_all")
        config = {**backbone.spec.config, "pooling": "concat_all"}
        backbone.spec = dataclasses.replace(backbone.spec, config=config)
