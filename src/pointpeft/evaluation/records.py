"""What goes beside a result: versions, memory, settings, log, and the folder of all this."""

import json
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from pointpeft.errors import ConfigError
from pointpeft.files import replacing, write_json

__all__ = [
    "append_log",
    "check_output",
    "output_folder",
    "peak_memory_bytes",
    "versions",
    "write_measurement",
]

_CONFIG = "config.yaml"


def peak_memory_bytes() -> int:
    """Largest memory of this process so far: on the GPU if one was used, else resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    import resource  # not on every platform

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    from pointpeft import __version__

    return {
        "pointpeft": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("lightning"),
        "platform": platform.platform(),
    }


def output_folder(path: str | Path) -> Path:
    """Create the folder that results go into.

    Raises:
        ConfigError: there is a file of that name.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"`output` {path} is a file; pass a folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def check_output(path: str | Path, kind: type) -> None:
    """Refuse a folder whose results a measurement would spoil; one like it may be repeated.

    Args:
        path: the folder, which may be absent.
        kind: config class of the measurement.

    Raises:
        ConfigError: it holds a training run, or a measurement of another kind.
    """
    file = Path(path) / _CONFIG
    if not file.is_file():
        return
    try:
        stated = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError):
        stated = None
    if not isinstance(stated, dict) or set(stated) != {field.name for field in fields(kind)}:
        raise ConfigError(
            f"`output` {path} holds a training run or another measurement; name another folder"
        )


def write_measurement(path: str | Path, config: Any, metrics: dict[str, Any]) -> None:
    """Write ``config.yaml`` and ``metrics.json`` of a measurement, and lines of ``log.txt``.

    Args:
        path: the folder, created when absent.
        config: what was asked for, a dataclass with a ``protocol``.
        metrics: what was found.

    Raises:
        ConfigError: there is a file of that name.
    """
    folder = output_folder(path)
    plain = json.loads(json.dumps(asdict(config), default=str))  # YAML knows no tuples and paths
    with replacing(folder / _CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    write_json(folder / "metrics.json", metrics)
    command = f"command: {' '.join(sys.argv)}"
    append_log(folder, [command, f"measured by the {config.protocol} protocol"])


def append_log(folder: Path, lines: Iterable[str]) -> None:
    """Add lines to the ``log.txt`` of a folder, as training runs write theirs."""
    with (folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as log:
        for line in lines:
            log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} INFO {line}\n")
