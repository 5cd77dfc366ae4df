"""The config of a saved adapter, read back and checked."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pointpeft.errors import CheckpointError
from pointpeft.locations import ADAPTER_CONFIG

__all__ = ["FORMAT_VERSION", "read_adapter_config"]

FORMAT_VERSION = 2


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """The content of ``adapter_config.json``, checked.

    ``["base_model"]["checkpoint"]`` is the absolute path of the encoder's weights, if they are
    there.

    Raises:
        CheckpointError: the file is missing or damaged, or of a newer format; the key is named.
    """
    path = Path(folder) / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        newer = int(config["format_version"]) > FORMAT_VERSION
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
    if newer:
        raise CheckpointError(
            f"{path} has format version {config['format_version']}, this release reads up to "
            f"{FORMAT_VERSION}; upgrade pointpeft"
        )
    if wrong := _wrong(config):
        raise CheckpointError(f"{path} is damaged: {'; '.join(wrong)}")
    base = config["base_model"]
    base["checkpoint"] = _absolute(base.get("checkpoint"), path.parent)
    return config


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _are_names(value: Any) -> bool:
    is_list = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return value is None or (is_list and len(set(value)) == len(value))


def _of_type(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


_VALID: dict[str, tuple[Callable[[Any], bool], str]] = {
    "method.method": (_of_type(str), "a name"),
    "base_model.name": (_of_type(str), "a name"),
    "base_model.config": (_of_type(dict), "settings"),
    "base_model.num_points": (_is_size, "a positive integer"),
    "base_model.hash": (_of_type(str), "a hash"),
    "num_classes": (_is_size, "a positive integer"),
    "class_names": (_are_names, "different names, or null"),
    "input": (_of_type(dict, type(None)), "a description, or null"),
}
"""What loading needs, and what it may be."""
_VALID_IF_THERE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "base_model.checkpoint": (_of_type(str, type(None)), "a place, or null"),
    "temperature": (_is_positive, "a positive number"),
    "task": (_of_type(str), "a name"),
    "parts": (_of_type(dict, type(None)), "a table, or null"),
}


def _wrong(config: dict[str, Any]) -> list[str]:
    """What is missing or not what it has to be, in words."""
    found = []
    for key, (valid, expected) in (_VALID | _VALID_IF_THERE).items():
        section, _, name = key.rpartition(".")
        values = config.get(section) if section else config
        if not isinstance(values, dict) or name not in values:
            if key in _VALID:
                found.append(f"it lacks {key}")
        elif not valid(values[name]):
            found.append(f"{key} is {repr(values[name])[:40]}, expected {expected}")
    names, count = config.get("class_names"), config.get("num_classes")
    is_classifier = config.get("task", "classification") == "classification"
    if not found and is_classifier and names is not None and len(names) != count:
        found.append(f"it has {len(names)} class_names, and num_classes is {count}")
    return found


def _absolute(recorded: str | None, folder: Path) -> str | None:
    """The file that was recorded relative to the folder; as it was recorded if there is none."""
    path = folder / (recorded or "")
    return str(path.resolve()) if recorded and path.is_file() else recorded
