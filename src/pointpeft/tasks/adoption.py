"""Models that published code fine-tuned, made into adapters that can be measured like ours."""

import re
from pathlib import Path
from typing import Any

from pointpeft.data import InputTransform, PartTable
from pointpeft.data.published import PART_IDS
from pointpeft.data.published.dataset import PublishedDataset
from pointpeft.data.published.registry import choose_dataset
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models import create_model, save_model
from pointpeft.models.checkpoint import Checkpoint, read_checkpoint
from pointpeft.peft import FullConfig, MemoryBank, PeftModel, get_peft_model, publishing
from pointpeft.peft.conversion import on_encoder
from pointpeft.tasks.config import FinetuneConfig

__all__ = ["adopt_checkpoint"]

ENCODER = "backbone.safetensors"
ADAPTER = "adapter"

_BANKS = (publishing.BANK, "train_f_pos_shape_scan.pt", "train_f_pos_shape.pt")
"""Names of the memory bank beside a file of Point-PEFT: ours, then those in published code."""
_ENCODERS = (publishing.ENCODER, "pretrain.pth", "pre-train.pth")
"""Names of the encoder there."""


def adopt_checkpoint(config: FinetuneConfig, folder: str | Path) -> None:
    """Write the model of a published ``.pth`` file as an adapter with its encoder beside it.

    Beside a file of Point-PEFT its memory bank (``cache_shape.pt``) and the encoder that it was
    tuned from (``pretrain.safetensors`` as :func:`pointpeft.peft.save_published` writes it, or a
    published ``pretrain.pth``) are looked for.

    Args:
        config: of a run that would give such a model: model, preset, data, and the file as its
            ``checkpoint``. The data must be a published data set, which names the classes.
        folder: gets ``backbone.safetensors`` and ``adapter/``.

    Raises:
        CheckpointError: no published file, one of another task, one that does not fit, or there
            is nothing beside a file of Point-PEFT.
        ConfigError: the data is no published data set.
        DataError: it is not known, or several are.
    """
    content = read_checkpoint(str(config.checkpoint))
    _check_layout(content, config)
    dataset = _dataset(config)
    encoder, adapted = _adapted(content, config, dataset)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(encoder, folder / ENCODER)
    adapted.base_checkpoint = f"../{ENCODER}"
    adapted.class_names = _names(adapted.sizes["num_classes"], dataset)
    if dataset.part_names:
        categories = {name: tuple(PART_IDS[name]) for name in dataset.class_names}
        adapted.parts = PartTable(dataset.part_names, categories).to_dict()
    num_points = config.data.num_points or encoder.spec.num_points
    transform = InputTransform(num_points, config.data.normalize)  # type: ignore[arg-type]
    adapted.input = {
        "transform": transform.to_dict(),
        "statistics": None,
        "source": str(Path(config.data.source).resolve()),
        "split": {"seed": config.data.seed, "val_fraction": config.data.val_fraction},
    }
    adapted.save_pretrained(folder / ADAPTER)


def _check_layout(content: Checkpoint, config: FinetuneConfig) -> None:
    layout = content.published
    if layout is None:
        raise CheckpointError(
            f"{content.source} is {content.layout}, no published file; of a model of ours pass the "
            "folder of its run"
        )
    if layout.task != config.task:
        raise CheckpointError(
            f"{content.source} is {layout.name}, a model for {layout.task}; the config asks for "
            f"{config.task}"
        )


def _dataset(config: FinetuneConfig) -> PublishedDataset:
    source = Path(config.data.source).expanduser()
    dataset = choose_dataset(source, config.data.variant) if source.is_dir() else None
    if dataset is None:
        raise ConfigError(
            f"data.source={config.data.source} is no published data set, which a published model "
            "is measured on; data.variant names one where a folder holds several"
        )
    return dataset


def _adapted(
    content: Checkpoint, config: FinetuneConfig, dataset: PublishedDataset
) -> tuple[Any, PeftModel]:
    """The encoder of a file and its model under the method that it was tuned by."""
    if content.published is None or content.published.attach is None:
        model = _model(content, config, dataset)
        return model.backbone, get_peft_model(model, FullConfig())
    bank = _beside(content, _BANKS, "its memory bank, one tensor (channels, items)")
    tuned_from = _beside(content, _ENCODERS, "the encoder that it was tuned from")
    encoder, adapted = on_encoder(_model(content, config, dataset), content, tuned_from)
    adapted.set_bank(MemoryBank.import_published(bank), encoder)
    return encoder, adapted


def _beside(content: Checkpoint, names: tuple[str, ...], what: str) -> Path:
    """The file beside a checkpoint that has one of ``names``."""
    folder = content.source.parent
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{content.source} is {content.layout}, which cannot be measured without {what}; expected "
        f"in {folder}: {' or '.join(names)}"
    )


def _model(content: Checkpoint, config: FinetuneConfig, dataset: PublishedDataset) -> Any:
    counts: dict[str, Any] = {
        "num_parts": len(dataset.part_names),
        "num_categories": len(dataset.class_names),
    }
    if config.task == "classification":
        heads = r"(model\.)?head\.\d+\.weight"
        layers = sorted(name for name in content.state if re.fullmatch(heads, name))
        counts = {"num_classes": len(content.state[layers[-1]])}
    return create_model(
        config.model,
        task=config.task,  # type: ignore[arg-type]
        preset=config.preset,
        checkpoint=content.source,
        **counts,
        **config.backbone,
    )


def _names(outputs: int | None, dataset: PublishedDataset) -> tuple[str, ...]:
    """Class names; published Point-BERT has 40 outputs for the 15 classes of ScanObjectNN."""
    assert outputs is not None, "models have classes or categories"
    surplus = range(len(dataset.class_names), outputs)
    return (*dataset.class_names, *(f"unused {number}" for number in surplus))
