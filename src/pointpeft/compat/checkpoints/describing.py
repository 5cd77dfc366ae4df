"""What a published file of a tuned model does not say: names of its classes, and its input."""

import logging
from collections.abc import Sequence

from pointpeft.data import InputTransform
from pointpeft.data.benchmarks.datasets import DATASETS
from pointpeft.models import get_entry
from pointpeft.peft.model import PeftModel

__all__ = ["describe_published"]

log = logging.getLogger("pointpeft")


def describe_published(
    adapted: PeftModel, preset: str | None, classes: Sequence[str] | None
) -> None:
    """Note what is needed to predict with a published model; what is assumed is logged.

    Args:
        adapted: a tuned classifier.
        preset: the data set that it was trained on, as far as that is known.
        classes: names of its classes; by default those of the data set that ``preset`` is named
            after, if there are as many.

    Raises:
        ConfigError: there are more or fewer names than classes, or a name occurs twice.
    """
    names = classes or _classes_of(preset, adapted.sizes["num_classes"])
    adapted.describe(names, _input_transform(adapted, preset))


def _classes_of(preset: str | None, count: int | None) -> Sequence[str] | None:
    for data in DATASETS.values():
        if preset and data.name.startswith(preset) and len(data.class_names) == count:
            log.info("classes: those of %s", data.title)
            return data.class_names
    log.warning(
        "the file does not name its %s classes: give --classes FILE (`classes` in Python), or the "
        "adapter can be loaded but predicts no names", count,
    )  # fmt: skip
    return None


def _input_transform(adapted: PeftModel, preset: str | None) -> InputTransform:
    spec = adapted.base_spec
    entry = get_entry(spec.name)
    known = entry.presets.get(preset or "")
    normalize = known.normalize if known else entry.normalize
    if known is None:
        log.warning(
            "no preset: the model is taken to be trained on clouds of %d points, normalize=%s",
            spec.num_points, normalize,
        )  # fmt: skip
    return InputTransform(spec.num_points, normalize)  # type: ignore[arg-type]
