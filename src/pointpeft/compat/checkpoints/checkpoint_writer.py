"""From our models to files that the published repositories load."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointpeft.compat.checkpoints.bank_files import BANK, QUERY_ENCODER, read_bank
from pointpeft.compat.checkpoints.checkpoint_reader import WRITTEN_HERE
from pointpeft.compat.checkpoints.layouts import LAYOUTS
from pointpeft.errors import ConfigError
from pointpeft.files import replacing
from pointpeft.models import save_model
from pointpeft.models.checkpoint import Layout
from pointpeft.models.loadable import Loadable
from pointpeft.models.objective import Pretraining
from pointpeft.models.safetensors_files import objective_facts, read_safetensors
from pointpeft.models.trunk import Trunk
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.model import PeftModel
from pointpeft.peft.point_peft import PointPeftConfig, PointPeftTuner

__all__ = ["BANK", "QUERY_ENCODER", "pth_layout", "save_pth"]

log = logging.getLogger("pointpeft")

_VOTED = "_vote"
"""Ends the name of the file that keeps the epoch of the best vote, beside that of its run."""
_MODULE = "module."
"""Before every name, as the published repositories write and read it; not of part segmentation."""
_SCORES = {
    "test_acc": "test_accuracy",
    "class_avg_iou": "test_class_iou",
    "inctance_avg_iou": "test_instance_iou",
}
"""What a file of part segmentation says of itself, and our names for it."""


def save_pth(
    model: PeftModel | Loadable,
    path: str | Path,
    epoch: int = 0,
    metrics: Mapping[str, Any] | None = None,
) -> Layout:
    """Write a model as a ``.pth`` file with published names.

    Of Point-PEFT with a memory bank, beside it :data:`BANK` as published and
    :data:`QUERY_ENCODER`, the frozen encoder in our form: the ``.pth`` holds neither.

    Args:
        model: a :class:`PeftModel` (full or linear tuning, or Point-PEFT with
            ``reference_compat=True``), or a model of ``create_model``.
        path: the file, replaced only when the new one is complete.
        epoch: of the weights.
        metrics: what was measured, 0 to 1, under the names of ``metrics.json``. The file repeats
            ``test_accuracy``, and of part segmentation both mean IoUs.

    Returns:
        The layout that was written.

    Raises:
        ConfigError: no published repository has such a model, or the bank or encoder of another
            file would be replaced.
    """
    path = Path(path)
    layout = pth_layout(model)
    beside = _beside(model)
    if beside is not None:
        _check_folder(*beside, path)
    network: Loadable | PeftModel = model
    if isinstance(model, PeftModel):
        network = model.adapter if layout.tuned else model.model
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.startswith(("tuner.bank.", "tuner.retriever."))
    }
    content = _content(layout, layout.theirs(state), metrics or {})
    with replacing(path) as temporary:
        torch.save({**content, "epoch": epoch, WRITTEN_HERE: _facts(model)}, temporary)
    log.info("%s: written as published, %s", path, layout.name)
    if beside is not None:
        features, retriever = beside[0].features, beside[1]
        bank, encoder = path.parent / BANK, path.parent / QUERY_ENCODER
        with replacing(bank) as temporary:
            torch.save(features.float().cpu().contiguous(), temporary)
        save_model(retriever, encoder)
        log.info("%s: its memory bank; %s makes the queries", bank, encoder.name)
    return layout


def _beside(model: PeftModel | Loadable) -> tuple[MemoryBank, Trunk] | None:
    """The memory bank of Point-PEFT and the encoder that makes its queries, where there are."""
    if not isinstance(model, PeftModel) or not isinstance(model.tuner, PointPeftTuner):
        return None
    return None if model.bank is None else (model.bank, model.tuner.retriever)


def _facts(model: PeftModel | Loadable) -> dict[str, Any]:
    """What the tensors do not show, such as heads and groups, for whoever reads the file here."""
    spec = model.base_spec if isinstance(model, PeftModel) else model.core.spec
    facts = {"name": spec.name, "config": dict(spec.config), "num_points": spec.num_points}
    if isinstance(model, Pretraining):
        facts["pretraining"] = objective_facts(model)
    return facts | ({"method": model.config.to_dict()} if isinstance(model, PeftModel) else {})


def _check_folder(own_bank: MemoryBank, retriever: Trunk, path: Path) -> None:
    """Refuse to replace a bank or an encoder that a file other than ``path`` may need.

    Of one run the epochs of the best accuracy and of the best vote share theirs.
    """
    of_run = path.stem.removesuffix(_VOTED)
    if {file.stem.removesuffix(_VOTED) for file in path.parent.glob("*.pth")} == {of_run}:
        return
    bank, encoder = path.parent / BANK, path.parent / QUERY_ENCODER
    there, own = {}, {}
    if bank.is_file():
        there[bank] = {"": read_bank(bank).features}
        own[bank] = {"": own_bank.features}
    if encoder.is_file():
        there[encoder], _ = read_safetensors(encoder)
        own[encoder] = retriever.state_dict()
    if differing := [str(file) for file in there if not _equal(there[file], own[file])]:
        raise ConfigError(
            f"{path} would replace {' and '.join(differing)}, which may belong to another file: "
            "write it into a folder of its own"
        )


def _equal(there: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    return there.keys() == own.keys() and all(
        torch.equal(tensor.float(), own[name].float().cpu()) for name, tensor in there.items()
    )


def _content(layout: Layout, state: dict[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    if layout.task == "part_segmentation":  # which has programs of its own
        scores = {theirs: metrics.get(ours) or 0.0 for theirs, ours in _SCORES.items()}
        return {"model_state_dict": state, "optimizer_state_dict": {}, **scores}
    percent = 100 * (metrics.get("test_accuracy") or 0.0)
    return {
        "base_model": {_MODULE + name: tensor for name, tensor in state.items()},
        "optimizer": {},
        "metrics": {"acc": percent},
        "best_metrics": {"acc": percent},
    }


def pth_layout(model: PeftModel | Loadable) -> Layout:
    """The published layout of a model; of hierarchical ones in their own depths.

    Raises:
        ConfigError: there is none.
    """
    network = model.model if isinstance(model, PeftModel) else model
    core = network.core
    name = core.spec.name.removesuffix("_small")
    task = "pretraining" if network.task == "tokenizer" else network.task
    config = model.config if isinstance(model, PeftModel) else None
    tuned = isinstance(config, PointPeftConfig)
    if isinstance(config, PointPeftConfig) and not config.reference_compat:
        raise ConfigError("published repositories have Point-PEFT with reference_compat=True only")
    if config is not None and config.head == "lda":
        raise ConfigError("published repositories have no model with head=lda")
    known = "point_m2ae" if name == "i2p_mae" and task != "pretraining" else name
    for layout in reversed(LAYOUTS):  # of I2P-MAE's the one without a teacher
        if (layout.model, layout.task, layout.tuned) == (known, task, tuned):
            return layout.fit(core.config.depths) if layout.fit else layout
    method = " under Point-PEFT" if tuned else ""
    raise ConfigError(f"no published repository keeps {name!r} for {task}{method} in a file")
