"""Measurements as files, and the settings of a measurement."""

import json
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from pointpeft.compat.names import PROTOCOLS
from pointpeft.errors import ConfigError, check_choices, check_sizes
from pointpeft.files import replacing, write_json
from pointpeft.locations import RUN_CONFIG

__all__ = [
    "SPLITS",
    "EvaluateConfig",
    "append_log",
    "check_output",
    "output_folder",
    "peak_memory_bytes",
    "versions",
    "write_measurement",
]


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


def check_output(path: str | Path) -> None:
    """Refuse to write a measurement over other results: no verb does that.

    Args:
        path: the folder, which may be absent.

    Raises:
        ConfigError: it holds a run or a measurement, or is a file.
    """
    if Path(path).is_file() or (Path(path) / RUN_CONFIG).exists():
        raise ConfigError(
            f"`output` {path} is a file or already holds a run or a measurement; name another "
            "folder as `output`, or remove it"
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
    with replacing(folder / RUN_CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    write_json(folder / "metrics.json", metrics)
    command = f"command: {' '.join(sys.argv)}"
    append_log(folder, [command, f"measured by the {config.protocol} protocol"])


def append_log(folder: Path, lines: Iterable[str]) -> None:
    """Add lines to the ``log.txt`` of a folder, as training runs write theirs."""
    with (folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as log:
        for line in lines:
            log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} INFO {line}\n")


SPLITS = ("train", "val", "test", "all")
"""Parts of a data set that can be measured."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured, and how.

    Attributes:
        adapter: adapter or run folder.
        data: labelled data, as for training; its classes must be known to the adapter.
        split: one of :data:`SPLITS`. By default the test part; of other data than the adapter was
            trained on, without a stated test part, every item.
        variant: name of a benchmark data set, where ``data`` holds several.
        protocol: "honest", or another one that reads data and votes as the papers' code does.
        votes: measure a classifier by voting too, see
            :meth:`pointpeft.training.protocol.Protocol.votes`.
        seed: of the views that vote, and of points that the protocol draws.
        checkpoint: weights of the encoder, if not where the adapter says.
        up_axis: axis of the files that points up, if not as in training.
        device: "auto", "cpu" or "cuda".
        batch_size: clouds at a time; None: as many as the run of the adapter was measured with.

    Raises:
        ConfigError: a value is none of those, or the protocol measures no such split.
    """

    adapter: str
    data: str
    split: str | None = None
    variant: str | None = None
    protocol: str = "honest"
    votes: int = 0
    seed: int = 0
    checkpoint: str | Path | None = None
    up_axis: str | None = None
    device: str = "auto"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_choices(self, ["protocol"], PROTOCOLS)
        check_sizes(self, ["votes", "seed"], least=0)
        if self.batch_size is not None:
            check_sizes(self, ["batch_size"])
        if self.split is not None:
            check_choices(self, ["split"], SPLITS)
        if self.protocol != "honest" and self.split in ("train", "all"):
            raise ConfigError(
                f"split={self.split} is not measured by the {self.protocol} protocol, where "
                "training clouds keep all their points and the test split serves to validate; "
                "measure the split test, or take protocol honest"
            )
