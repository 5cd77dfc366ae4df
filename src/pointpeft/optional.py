"""Libraries that the package can do without, imported where they are needed."""

import importlib
from types import ModuleType

from pointpeft.errors import ConfigError

__all__ = ["import_arrow", "import_optional"]


def import_optional(name: str, missing: str) -> ModuleType:
    """A library that may not be installed.

    Args:
        name: of the module.
        missing: what is said where it is not: what needs it, and how it is installed.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(missing) from error


def import_arrow(what: str, instead: str = "") -> tuple[ModuleType, ModuleType]:
    """Arrow, and its Parquet.

    Args:
        what: is to be read or written, such as "shards".
        instead: what else there is, such as "name a .npz file".

    Raises:
        ConfigError: they are not installed.
    """
    missing = f"{what} need pyarrow; install it with 'pip install pointpeft[parquet]'"
    missing += f", or {instead}" if instead else ""
    return import_optional("pyarrow", missing), import_optional("pyarrow.parquet", missing)
