"""Settings as YAML files, by path or name, which build on others, and as strict overrides."""

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.files import change_leaves, replacing
from pointpeft.training.config import VerbConfig
from pointpeft.training.settings import list_settings

__all__ = [
    "ALIASES",
    "CONFIGS",
    "config_text",
    "dotted",
    "find_config",
    "load_config",
    "read_settings",
    "save_config",
    "setting_names",
]

log = logging.getLogger("pointpeft")

CONFIGS = Path(__file__).parents[1] / "cfgs"
"""Folder of the configs that come with the package."""

_SCAN = {"hardest": "scan_pb", "objbg": "scan_obj-bg", "objonly": "scan_obj"}
_BERT_SCAN = {"hardest": "scan_pb", "objectbg": "scan_obj-bg", "objectonly": "scan_obj"}
ALIASES: dict[str, str] = {
    # Point-MAE
    "pretrain": "pre-training/point-mae",
    "fewshot": "few-shot/point-mae",
    "finetune_modelnet": "fine-tuning/point-mae_modelnet40",
    "finetune_modelnet_8k": "fine-tuning/point-mae_modelnet40_8k",
    **{
        f"finetune_scan_{theirs}": f"fine-tuning/point-mae_{ours}" for theirs, ours in _SCAN.items()
    },
    # PCP-MAE; its other names are those of Point-MAE
    "pretrain/base": "pre-training/pcp-mae",
    # Point-BERT
    "Mixup_models/Point-BERT": "pre-training/point-bert",
    "ShapeNet55_models/dvae": "pre-training/point-bert-dvae",
    "Fewshot_models/PointTransformer": "few-shot/point-bert",
    "ModelNet_models/PointTransformer": "fine-tuning/point-bert_modelnet40",
    **{
        f"ModelNet_models/PointTransformer_{points}point": f"fine-tuning/point-bert_modelnet40_{k}k"
        for points, k in ((2048, 2), (4096, 4), (8192, 8))
    },
    **{
        f"ScanObjectNN_models/PointTransformer_{theirs}": f"fine-tuning/point-bert_{ours}"
        for theirs, ours in _BERT_SCAN.items()
    },
    # Point-PEFT on Point-M2AE
    "fine-tuning/scan": "peft/point-m2ae_scan_pb_aug",
}
"""What the papers' repositories call their configs, below their ``cfgs``, and ours of the same
runs. Those of Point-M2AE and I2P-MAE have our names."""
_TUNED = {
    "finetune_scan_hardest": "peft/point-mae_scan_pb_aug",
    "finetune_modelnet": "peft/point-mae_modelnet40",
}
"""Of the names that two repositories have, those of Point-PEFT on Point-MAE."""


def find_config(name: str | Path, tuned: bool = False) -> Path:
    """The file of a config.

    Args:
        name: a file; or the name of a config of the package or of a the paper's repository, such as
            ``fine-tuning/scan_pb``, with or without ``cfgs/`` and ``.yaml``.
        tuned: whether it is to be Point-PEFT's, where two repositories have the name.

    Raises:
        ConfigError: there is none; near names are proposed.
    """
    if Path(name).is_file():
        return Path(name)
    short = _short(name)
    if tuned and short in _TUNED:
        short = _TUNED[short]
    file = CONFIGS / f"{ALIASES.get(short, short)}.yaml"
    if not Path(name).is_absolute() and ".." not in file.parts and file.is_file():
        if short in ALIASES or short in _TUNED.values():
            log.info("config %s: %s of the package", name, ALIASES.get(short, short))
        return file
    own = sorted(
        f.relative_to(CONFIGS).with_suffix("").as_posix() for f in CONFIGS.glob("*/[!_]*.yaml")
    )
    ends = [each for each in own if each.endswith(f"/{short}")]
    hint = f"did you mean {' or '.join(ends)}? " if ends else nearest_hint(short, [*own, *ALIASES])
    raise ConfigError(
        f"config file {name} does not exist, and no config is called {short}: {hint}configs of the "
        f"package lie in {CONFIGS}"
    )


def _short(name: str | Path) -> str:
    """A name without ``cfgs/`` before it and ``.yaml`` behind it."""
    path = PurePosixPath(Path(name).as_posix())
    parts = list(path.parts)
    while parts[:1] == ["cfgs"]:
        parts = parts[1:]
    return "/".join(parts).removesuffix(".yaml")


T = TypeVar("T")


def load_config(
    kind: type[T],
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> T:
    """Typed defaults, then YAML files, then values, then ``key=value`` overrides.

    Args:
        kind: the config class.
        files: YAML files that state what differs, later ones winning, or names of configs, see
            :func:`pointpeft.training.config_files.find_config`. A file may name others that it
            builds on under ``defaults``, a list of paths relative to itself.
        overrides: for instance ``["optimizer.lr=1e-3", "trainer.epochs=20"]``.
        values: by dotted key, taken as they are (text is not read as YAML).

    Raises:
        ConfigError: unknown key (the nearest valid one is proposed), wrong type, no such file, or
            files that build on each other.
    """
    config = OmegaConf.structured(kind)
    for file in files:
        for path, content in _layers(find_config(file)):
            _merge(config, content, str(path))
    for key, value in (values or {}).items():
        change = OmegaConf.create()
        OmegaConf.update(change, key, _literal(value))
        _merge(config, change, f"{key}={value}")
    for override in overrides:
        _merge(config, _parse(override), override)
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except InterpolationResolutionError as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(
            f"{error.full_key}: {reason}; text in ${{...}} stands for another setting, write "
            r"\${...} for text that is to stay as it is"
        ) from error


def setting_names(kind: type) -> list[str]:
    """Dotted keys of a config class; of a free-form mapping, such as ``backbone``, itself alone."""
    return [setting.key for setting in list_settings(kind)]


def dotted(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        found |= dotted(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def config_text(config: VerbConfig) -> str:
    """Every setting of a run as YAML, which :func:`load_config` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(_literal(asdict(config))))


def read_settings(path: Path) -> dict[str, Any]:
    """What :func:`save_config` wrote, as plain nested values.

    Raises:
        ConfigError: the file is damaged.
        FileNotFoundError: it is not there.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # no UTF-8, or a date that is none
        raise ConfigError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is damaged: it holds no settings")
    return content


def save_config(config: VerbConfig, path: str | Path) -> None:
    """Write :func:`config_text` to a file."""
    with replacing(path) as temporary:
        temporary.write_text(config_text(config), encoding="utf-8")


def _literal(value: object) -> Any:
    """A value in whose text, at any depth, ``${`` does not begin an interpolation."""

    def escaped(leaf: object) -> object:
        if not isinstance(leaf, str):
            return leaf
        # Backslashes before it have a meaning to OmegaConf too.
        return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", leaf)

    return change_leaves(value, escaped)


def _parse(override: str) -> DictConfig:
    if "=" not in override:
        raise ConfigError(f"{override!r} is no override: write key=value, as in seed=1")
    try:
        return OmegaConf.from_dotlist([override])
    except Exception as error:
        raise ConfigError(f"{override}: the value cannot be read as YAML: {error}") from error


def _layers(path: Path, above: tuple[Path, ...] = ()) -> list[tuple[Path, DictConfig]]:
    """A file behind those that its ``defaults`` name, and so on; ``above`` are the ones naming it.

    Raises:
        ConfigError: one of them is missing or unreadable, or builds on itself.
    """
    if path.resolve() in [file.resolve() for file in above]:
        raise ConfigError(f"{above[-1]}: defaults names {path}, which builds on this file itself")
    if not path.is_file():
        raise ConfigError(f"{above[-1]}: defaults names {path}, which does not exist")
    try:
        content = OmegaConf.load(path)
    except Exception as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path} must be a mapping of keys to values")
    names = content.pop("defaults", OmegaConf.create([]))
    if not isinstance(names, ListConfig) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: defaults must be a list of files, as in [other.yaml]")
    layers = [layer for name in names for layer in _layers(path.parent / name, (*above, path))]
    return [*layers, (path, content)]


def _merge(config: DictConfig, change: DictConfig, source: str) -> None:
    """Change a config in place: to copy it for each of many overrides takes long."""
    _check_keys(OmegaConf.get_type(config), change, source)
    try:
        config.merge_with(change)
    except OmegaConfBaseException as error:
        reason = str(error).split("\n")[0]
        if "is not a subclass of" in reason:  # speaks of classes, the user of YAML
            reason = "expected a mapping of further keys to values"
        key = f"key {error.full_key!r}: " if error.full_key else ""
        raise ConfigError(f"{source}: {key}{reason}") from error


def _check_keys(kind: Any, change: DictConfig, source: str) -> None:
    """Refuse keys that the config class does not have; free-form mappings are left alone."""
    known, values = setting_names(kind), cast(dict[Any, Any], OmegaConf.to_container(change))
    for key in dotted(values):
        path = f"{key}."
        if not any(path.startswith(f"{name}.") or name.startswith(path) for name in known):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"{source}: unknown key {key}; did you mean {near!r}?\n"
                f"all keys: see `{kind.__name__}`"
            )
