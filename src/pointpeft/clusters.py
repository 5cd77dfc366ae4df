"""The library Ray, which spreads work over machines: an optional dependency."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from pointpeft.errors import ConfigError

__all__ = ["import_ray", "ray_session"]


def import_ray(with_data: bool = False) -> ModuleType:
    """Ray, and Ray Data if it is asked for.

    Raises:
        ConfigError: it is not installed, or not all that it needs.
    """
    try:
        import ray

        if with_data:
            import ray.data  # needs pandas
    except ImportError as error:
        raise ConfigError(
            "`engine` ray needs the library Ray: pip install 'pointpeft[ray]'"
        ) from error
    return ray


@contextmanager
def ray_session() -> Iterator[Any]:
    """Ray, connected to the cluster that ``RAY_ADDRESS`` names, or started on this machine.

    One that runs already is used, and goes on behind it.

    Raises:
        ConfigError: it is not installed.
    """
    ray = import_ray()
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()
