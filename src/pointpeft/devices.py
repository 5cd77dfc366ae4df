"""Where to compute."""

import torch

from pointpeft.errors import ConfigError

__all__ = ["choose_device"]


def choose_device(name: str) -> str:
    """A torch device for "auto", "cpu", "cuda", or one such as "cuda:1".

    Raises:
        ConfigError: a GPU is asked for and there is none, or torch knows no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` cuda: no usable GPU was found; take cpu")
    try:
        torch.device(name)
    except RuntimeError:
        raise ConfigError(f"`device` must be cpu, cuda, cuda:1 or auto, got {name!r}") from None
    return name
