"""What there is to export: a model at hand, or the place of one."""

from pathlib import Path
from typing import Any

from pointpeft.create import create_model
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.locations import resolve_adapter, resolve_checkpoint
from pointpeft.measure.loaded_adapter import load_adapted
from pointpeft.models import get_entry, list_models
from pointpeft.models.loadable import Core
from pointpeft.models.network import Network
from pointpeft.models.safetensors_files import saved_name
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftModel

__all__ = ["load_source"]


def load_source(
    what: Trunk | Network | PeftModel | str | Path,
    checkpoint: str | Path | None,
    name: str | None,
) -> Trunk | Network | PeftModel:
    """The model that is meant.

    Args:
        what: a model; the folder of an adapter or run; the name of a backbone whose weights come
            with the package; or weights of a backbone, as for fine-tuning.
        checkpoint: weights of an adapter's encoder, where they are not found.
        name: of the backbone that weights are of, where their file does not say it.

    Raises:
        ConfigError: a name that is not needed, or lacks.
        CheckpointError: there is no such place, or nothing of use in it.
    """
    if not isinstance(what, str | Path):
        if isinstance(what, Core) and what.task == "tokenizer":
            raise _no_feature(what.spec.name)
        return what
    if _is_adapter(what):
        if name is not None:
            raise ConfigError(f"{what} is an adapter, which names its `model`: leave it out")
        return load_adapted(what, checkpoint)
    if checkpoint is not None:
        raise ConfigError(f"`checkpoint` is for an adapter, which {what} is not: leave it out")
    if str(what) in list_models() and not Path(what).exists():
        return _features(str(what), pretrained=True)
    if not str(what).startswith("hf://") and not Path(what).exists():
        raise CheckpointError(
            f"{what} does not exist: pass the folder of a run or adapter, a file of weights, or "
            f"one of {', '.join(list_models())}"
        )
    weights = resolve_checkpoint(what)
    name = name or saved_name(weights)
    if name is None:
        raise ConfigError(f"{what} does not say what it is of: pass `model`")
    return _features(name, checkpoint=weights)


def _features(name: str, **weights: Any) -> Trunk:
    if get_entry(name).backbone is None:
        raise _no_feature(name)
    trunk: Trunk = create_model(name, task="features", **weights)
    return trunk


def _no_feature(name: str) -> ConfigError:
    return ConfigError(f"`model` {name} is a tokenizer: it has no feature of a shape")


def _is_adapter(what: str | Path) -> bool:
    try:
        resolve_adapter(what)
    except CheckpointError:
        return False
    return True
