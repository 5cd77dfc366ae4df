"""Tensors of a TorchScript archive, the form of OpenAI's CLIP weights, without running its code.

Such an archive holds a program, and loading it the usual way compiles that. Its values lie in a
pickle beside it: modules of the program's own classes, and tensors that refer to files of the
archive. Here classes of the program become plain boxes, tensors are rebuilt by the two functions
that a pickle of weights needs, and any other name is refused.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

__all__ = ["is_torchscript", "read_torchscript"]


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with a program in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by name.

    Raises:
        pickle.UnpicklingError: the archive holds values of other kinds.
    """
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
        folder = name.removesuffix("data.pkl") + "data/"
        with archive.open(name) as file:
            root = _Unpickler(file, archive, folder).load()
    return dict(_tensors(root, ""))


class _Box:
    """A module of the program: its attributes, nothing else."""

    def __setstate__(self, state: object) -> None:
        self.values = state if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    """Rebuilds tensors and boxes; the names it follows are all in :meth:`find_class`."""

    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive = archive
        self.folder = folder

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function of the pickle."""
        if module.startswith("__torch__"):
            return _Box
        if module == "torch" and name.endswith("Storage"):
            return torch.serialization.StorageType(name).dtype
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch.jit._pickle":  # typed lists, which hold no weights
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """The values of a storage: ``("storage", type, file name, device, number)``."""
        _, dtype, key, _, count = pid
        content = bytearray(self.archive.read(f"{self.folder}{key}"))
        values = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0)
        if len(values) < count:
            raise pickle.UnpicklingError(f"storage {key} is too short")
        return values


def _rebuild(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: object
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors(box: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested boxes, with the names of a state dict."""
    for name, value in getattr(box, "values", {}).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Box):
            yield from _tensors(value, f"{prefix}{name}.")
