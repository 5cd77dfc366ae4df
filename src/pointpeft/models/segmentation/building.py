"""From an encoder to its part-segmentation network."""

from typing import Any

from pointpeft.errors import ConfigError
from pointpeft.models.registry import get_entry

__all__ = ["build_segmenter"]


def build_segmenter(backbone: Any, num_parts: int, num_categories: int) -> Any:
    """The part-segmentation model around an encoder made by ``create_model``.

    Args:
        backbone: the encoder, which becomes part of the model.
        num_parts: parts of all categories together.
        num_categories: categories whose parts they are.

    Raises:
        ConfigError: there is no such network for this encoder, or it is not deep enough.
    """
    entry = get_entry(backbone.spec.name)
    if entry.segmenter is None:
        raise ConfigError(
            f"{entry.name!r} is for {', '.join(entry.tasks)}, not for part_segmentation"
        )
    return entry.segmenter(backbone, num_parts, num_categories)
