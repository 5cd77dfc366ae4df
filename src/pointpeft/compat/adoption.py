"""Models that published code fine-tuned, made into adapters that can be measured like ours."""

from pathlib import Path
from typing import Any

from pointpeft.compat.checkpoints.attaching import fill_tuned
from pointpeft.compat.checkpoints.bank_files import Beside
from pointpeft.compat.checkpoints.checkpoint_converter import save_tuned
from pointpeft.compat.checkpoints.checkpoint_reader import head_sizes, read_checkpoint
from pointpeft.compat.clouds import part_table
from pointpeft.create import create_model, stated_sizes
from pointpeft.data import InputTransform
from pointpeft.data.benchmarks.benchmark import BenchmarkDataset
from pointpeft.data.benchmarks.stored import choose_dataset
from pointpeft.data.shapes import absolute_source
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models import Network, get_entry
from pointpeft.models.checkpoint import Checkpoint, fill
from pointpeft.models.trunk import Trunk
from pointpeft.peft import FullConfig, PeftModel, get_peft_model
from pointpeft.training.config import FinetuneConfig

__all__ = ["adopt_checkpoint"]


def adopt_checkpoint(config: FinetuneConfig, folder: str | Path) -> None:
    """Write the model of a published ``.pth`` file as an adapter with its encoder beside it.

    Beside a file of Point-PEFT its memory bank is looked for, and the encoder that it was tuned
    from, see :class:`pointpeft.compat.checkpoints.bank_files.Beside`.

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
    if content.layout is None or content.layout.task != config.task:
        raise CheckpointError(
            f"{content.source} is {content.title}, for {content.task}; what is asked for is a "
            f"published file for {config.task}"
        )
    dataset = _dataset(config)
    encoder, adapted = _adapted(content, config, dataset)
    adapted.class_names = _names(adapted.sizes["num_classes"], dataset)
    if (parts := part_table(dataset, dataset.class_names)) is not None:
        adapted.parts = parts.to_dict()
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


def _dataset(config: FinetuneConfig) -> BenchmarkDataset:
    source = Path(config.data.source).expanduser()
    dataset = choose_dataset(source, config.data.variant) if source.is_dir() else None
    if dataset is None:
        raise ConfigError(
            f"data.source={config.data.source} is no published data set, which a published model "
            "is measured on; data.variant names one where a folder holds several"
        )
    return dataset


def _adapted(
    content: Checkpoint, config: FinetuneConfig, dataset: BenchmarkDataset
) -> tuple[Trunk, PeftModel]:
    """The encoder of a file and its model under the method that it was tuned by."""
    model = _model(content, config, dataset)
    if content.layout is not None and content.layout.tuned:
        tuned, _ = fill_tuned(model, content, config.peft)
        return Beside.of(content).complete(tuned)
    fill(model, content)
    return model.backbone, get_peft_model(model, FullConfig())


def _model(content: Checkpoint, config: FinetuneConfig, dataset: BenchmarkDataset) -> Network:
    """A fresh network: by the preset, as a file of ours states, and as the config asks."""
    counts: dict[str, Any] = {
        "num_parts": len(dataset.part_names),
        "num_categories": len(dataset.class_names),
    }
    if config.task == "classification":
        counts = head_sizes(content.state)
    stated = stated_sizes(content, get_entry(config.model), config.task)
    model: Network = create_model(
        config.model,
        task=config.task,  # type: ignore[arg-type]
        preset=config.preset,
        **{**counts, **stated, **config.backbone},
    )
    return model


def _names(outputs: int | None, dataset: BenchmarkDataset) -> tuple[str, ...]:
    """Class names; published Point-BERT has 40 outputs for the 15 classes of ScanObjectNN."""
    assert outputs is not None, "models have classes or categories"
    surplus = range(len(dataset.class_names), outputs)
    return (*dataset.class_names, *(f"unused {number}" for number in surplus))
