"""Models that published code fine-tuned, made into adapters that can be measured like ours."""

import logging
from pathlib import Path
from typing import Any

from pointpeft.data import InputTransform, PartTable
from pointpeft.data.published import PART_IDS
from pointpeft.data.published.dataset import PublishedDataset
from pointpeft.data.published.registry import choose_dataset
from pointpeft.data.shapes import absolute_source
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models import create_model
from pointpeft.models.checkpoint import Checkpoint, read_checkpoint
from pointpeft.peft import FullConfig, MemoryBank, PeftModel, get_peft_model
from pointpeft.peft.conversion import head_sizes, on_encoder, save_tuned
from pointpeft.peft.publishing import BANK, QUERY_ENCODER
from pointpeft.tasks.config import FinetuneConfig

__all__ = ["adopt_checkpoint"]

log = logging.getLogger("pointpeft")

_BANKS = (BANK, "train_f_pos_shape_scan.pt", "train_f_pos_shape.pt")
"""Names of the memory bank beside a file of Point-PEFT: that of the published download, and those
that published code reads."""
_ENCODERS = (QUERY_ENCODER, "pretrain.pth", "pre-train.pth")
"""Names of the encoder there: ours, and those of Point-MAE and of Point-M2AE as published."""


def adopt_checkpoint(config: FinetuneConfig, folder: str | Path) -> None:
    """Write the model of a published ``.pth`` file as an adapter with its encoder beside it.

    Beside a file of Point-PEFT its memory bank (``cache_shape.pt``, ``train_f_pos_shape_scan.pt``
    or ``train_f_pos_shape.pt``) is looked for, and the encoder that it was tuned from
    (``pretrain.safetensors`` as :func:`pointpeft.peft.save_published` writes it, or a published
    ``pretrain.pth`` or ``pre-train.pth``; of several the one that has its frozen matrices).

    Args:
        config: of a run that would give such a model: model, preset, data, and the file as its
            ``checkpoint``. The data must be a published data set, which names the classes.
        folder: gets ``backbone.safetensors`` and ``adapter/``.

    Raises:
        CheckpointError: no published file, one of another task, one that does not fit, or beside
            a file of Point-PEFT there is no bank, or more than one, or no encoder of its own.
        ConfigError: the data is no published data set.
        DataError: it is not known, or several are.
    """
    content = read_checkpoint(str(config.checkpoint))
    _check_layout(content, config)
    dataset = _dataset(config)
    encoder, adapted = _adapted(content, config, dataset)
    adapted.class_names = _names(adapted.sizes["num_classes"], dataset)
    if dataset.part_names:
        categories = {name: tuple(PART_IDS[name]) for name in dataset.class_names}
        adapted.parts = PartTable(dataset.part_names, categories).to_dict()
    num_points = config.data.num_points or encoder.spec.num_points
    transform = InputTransform(num_points, config.data.normalize)  # type: ignore[arg-type]
    adapted.input = {
        "transform": transform.to_dict(),
        "statistics": None,
        "source": absolute_source(config.data.source),
        "variant": config.data.variant,
        "split": {"seed": config.data.seed, "val_fraction": config.data.val_fraction},
    }
    save_tuned(adapted, encoder, folder)


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
    banks = _beside(content, _BANKS, "its memory bank, one tensor (channels, items)")
    if len(banks) > 1:
        raise CheckpointError(
            f"{content.source} is {content.layout}, and {_listed(banks)} lie beside it, which does "
            "not tell whose bank is whose: put the file into a folder with its own bank alone"
        )
    encoders = _beside(content, _ENCODERS, "the encoder that it was tuned from")
    path, encoder, adapted = _on_one_of(encoders, _model(content, config, dataset), content)
    log.info(
        "%s: memory bank %s, tuned from the encoder %s", content.source, banks[0].name, path.name
    )
    adapted.set_bank(MemoryBank.import_published(banks[0]), encoder)
    return encoder, adapted


def _beside(content: Checkpoint, names: tuple[str, ...], what: str) -> list[Path]:
    """The files beside a checkpoint that have one of ``names``."""
    folder = content.source.parent
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise CheckpointError(
            f"{content.source} is {content.layout}, which cannot be measured without {what}; "
            f"expected in {folder}: {' or '.join(names)}"
        )
    return found


def _on_one_of(
    encoders: list[Path], tuned: PeftModel, content: Checkpoint
) -> tuple[Path, Any, PeftModel]:
    """The first of several encoders that ``tuned`` was made from, and what is made of both."""
    refused = []
    for path in encoders:
        try:
            return path, *on_encoder(tuned, content, path)
        except CheckpointError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    raise CheckpointError(
        f"{content.source} was tuned from none of {_listed(encoders)} beside it: "
        f"{'; '.join(map(str, refused))}"
    )


def _listed(paths: list[Path]) -> str:
    return " and ".join(path.name for path in paths)


def _model(content: Checkpoint, config: FinetuneConfig, dataset: PublishedDataset) -> Any:
    counts: dict[str, Any] = {
        "num_parts": len(dataset.part_names),
        "num_categories": len(dataset.class_names),
    }
    if config.task == "classification":
        counts = head_sizes(content)
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
