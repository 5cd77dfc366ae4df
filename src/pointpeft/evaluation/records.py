"""Facts that go beside a result: versions, memory, and output folder."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from pointpeft.errors import ConfigError

__all__ = ["output_folder", "peak_memory_bytes", "versions"]


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
        raise ConfigError(f"--output {path} is a file; pass a folder")
    path.mkdir(parents=True, exist_ok=True)
    return path
