"""Typed settings of training runs, their YAML form, and strict overrides."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pointpeft.errors import ConfigError, check_choices, check_sizes
from pointpeft.files import replacing

__all__ = [
    "PROTOCOLS",
    "DataConfig",
    "FewShotConfig",
    "FinetuneConfig",
    "OptimizerConfig",
    "PretrainConfig",
    "SvmCheckConfig",
    "SvmConfig",
    "TrainerConfig",
    "config_text",
    "load_config",
    "save_config",
    "setting_names",
]

T = TypeVar("T")

PROTOCOLS = ("honest", "published")
"""How models are selected and measured: on a validation split, or as the papers' code did."""


@dataclass
class DataConfig:
    """Where shapes come from and how they are prepared and augmented."""

    source: str = "homeobjects"  # "homeobjects", a folder of meshes or scans, or an .npz
    variant: str | None = None  # which published data set, where a folder holds several
    num_points: int | None = None  # points the model sees; None: what the model expects
    normalize: str = "unit_ball"  # or "none"
    up_axis: str = "y"  # axis of the files that points up
    augmentation: str | None = "scale-shift"  # a name of `pointpeft.data.transforms.recipe`
    on_error: str = "skip"  # unusable items: "skip" and list them, or "refuse"
    val_fraction: float = 0.2  # share of train for a missing validation or test split
    train_split: str = "train"  # published protocol: "train", "test", "whole", "trainval"
    seed: int = 0  # of surface sampling and splits

    def __post_init__(self) -> None:
        if self.num_points is not None:
            check_sizes(self, ["num_points"], prefix="data.")


@dataclass
class OptimizerConfig:
    """AdamW with a warm-up and a cosine."""

    lr: float | None = None  # None: what suits the tuning method
    min_lr: float = 1e-6
    weight_decay: float = 0.05  # on matrices; not on biases, norms and tokens
    warmup: float = 0.1  # share of the epochs
    grad_clip: float | None = 10.0  # L2 norm
    rule: str = "default"  # or "published": schedule and exemptions from decay as published
    cosine_epochs: int | None = None  # published: length of the cosine; None: trainer.epochs
    warmup_epochs: int = 10  # published: epochs of warm-up
    steps_twice: bool = False  # a step before the gradient is clipped and one after, as published

    def __post_init__(self) -> None:
        check_choices(self, ["rule"], ("default", "published"), prefix="optimizer.")
        check_sizes(self, ["warmup_epochs"], least=0, prefix="optimizer.")
        if self.cosine_epochs is not None:
            check_sizes(self, ["cosine_epochs"], prefix="optimizer.")
        if self.lr is not None and not self.lr > 0:
            raise ConfigError(f"optimizer.lr must be positive, got {self.lr}")
        if not 0 <= self.min_lr <= (self.lr or 1.0):
            raise ConfigError(f"optimizer.min_lr must lie in [0, lr], got {self.min_lr}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"optimizer.warmup is a share in [0, 1), got {self.warmup}")


@dataclass
class TrainerConfig:
    """Length of training and what it runs on; passed through to Lightning."""

    epochs: int = 50
    batch_size: int = 16
    patience: int | None = None  # epochs without a better validation score before stopping
    precision: str = "32-true"  # "bf16-mixed", "16-mixed"
    accelerator: str = "auto"
    devices: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    num_workers: int = 0  # clouds lie in memory: workers seldom help
    deterministic: bool = True
    sync_batchnorm: bool = False  # statistics of BatchNorm over all processes

    def __post_init__(self) -> None:
        check_sizes(self, ["epochs", "num_nodes"], prefix="trainer.")
        check_sizes(self, ["batch_size"], least=2, prefix="trainer.")  # BatchNorm needs two
        check_sizes(self, ["num_workers"], least=0, prefix="trainer.")
        if self.patience is not None:
            check_sizes(self, ["patience"], prefix="trainer.")


@dataclass
class FewShotConfig:
    """Episodes of few classes with few shapes each; every fold is tuned and tested by itself."""

    way: int | None = None  # classes of an episode; None: no episodes, all of the data
    shot: int = 10  # training shapes of a class
    queries: int = 20  # test shapes of a class
    folds: int = 10  # episodes
    fold: int | None = None  # only this one

    def __post_init__(self) -> None:
        if self.way is not None:
            check_sizes(self, ["way"], least=2, prefix="few_shot.")
        check_sizes(self, ["shot", "queries", "folds"], prefix="few_shot.")
        if self.fold is not None:
            check_sizes(self, ["fold"], least=0, prefix="few_shot.")


@dataclass
class FinetuneConfig:
    """Settings of ``pointpeft finetune``."""

    task: str = "classification"  # or "part_segmentation"
    model: str = "point_mae_small"
    preset: str | None = None
    checkpoint: str | None = None  # of the encoder; None: embedded one if there is; or "random"
    backbone: dict[str, Any] = field(default_factory=dict)  # encoder settings over the preset
    method: str | None = None  # None: what suits the task, as for optimizer.lr and augmentation
    peft: dict[str, Any] = field(default_factory=dict)  # settings of the method
    data: DataConfig = field(default_factory=lambda: DataConfig(augmentation=None))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    label_smoothing: float = 0.0  # share of the target that the other classes have
    protocol: str = "honest"  # or "published": selection on the test split and all else
    save_published: bool = False  # also as a file that the published repositories load
    votes: int = 0  # passes over differently drawn points whose mean is measured as well
    few_shot: FewShotConfig = field(default_factory=FewShotConfig)
    seed: int = 0
    seeds: int = 1  # repetitions with seed, seed + 1, ...

    def __post_init__(self) -> None:
        check_sizes(self, ["seeds"])
        check_sizes(self, ["seed", "votes"], least=0)
        check_choices(self, ["protocol"], PROTOCOLS)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing!r}")


@dataclass
class SvmCheckConfig:
    """A linear SVM on the features, again and again while a backbone is pre-trained."""

    source: str | None = None  # labelled data as for fine-tuning; None: no such check
    variant: str | None = None
    normalize: str = "none"
    num_points: int = 1024
    C: float | None = 0.01  # None: by cross-validation on train
    every: int = 1  # epochs

    def __post_init__(self) -> None:
        check_sizes(self, ["every", "num_points"], prefix="svm.")
        if self.C is not None and not self.C > 0:
            raise ConfigError(f"svm.C must be positive, got {self.C}")


@dataclass
class SvmConfig:
    """Settings of ``pointpeft svm``."""

    model: str = "point_mae_small"
    preset: str | None = None
    checkpoint: str | None = None  # as for fine-tuning
    backbone: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    C: float | None = None  # inverse regularisation strength; None: by cross-validation on train
    protocol: str = "honest"  # or "published"
    seed: int = 0  # of random weights

    def __post_init__(self) -> None:
        check_sizes(self, ["seed"], least=0)
        check_choices(self, ["protocol"], PROTOCOLS)
        if self.C is not None and not self.C > 0:
            raise ConfigError(f"C must be positive, got {self.C}")


@dataclass
class PretrainConfig:
    """Settings of ``pointpeft pretrain``."""

    model: str = "point_mae_small"
    preset: str | None = None
    checkpoint: str | None = None  # weights to start from
    backbone: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)  # masking, decoder, loss
    data: DataConfig = field(default_factory=DataConfig)
    procedural: int = 0  # procedural shapes in every epoch, new ones each time, beside the data
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-3, warmup=1 / 30, grad_clip=None)
    )
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(epochs=300, batch_size=128)
    )
    svm: SvmCheckConfig = field(default_factory=SvmCheckConfig)
    protocol: str = "honest"  # or "published"
    save_published: bool = False  # also as a file that the published repositories load
    seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, ["seed", "procedural"], least=0)
        check_choices(self, ["protocol"], PROTOCOLS)


def load_config(
    kind: type[T],
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> T:
    """Typed defaults, then YAML files, then values, then ``key=value`` overrides.

    Args:
        kind: the config class.
        files: YAML files that state what differs, later ones winning. A file may name others that
            it builds on under ``defaults``, a list of paths relative to itself.
        overrides: for instance ``["optimizer.lr=1e-3", "trainer.epochs=20"]``.
        values: by dotted key, taken as they are (text is not read as YAML).

    Raises:
        ConfigError: unknown key (the nearest valid one is proposed), wrong type, no such file, or
            files that build on each other.
    """
    config = OmegaConf.structured(kind)
    for file in files:
        for path, content in _layers(Path(file)):
            config = _merge(config, content, str(path))
    for key, value in (values or {}).items():
        change = OmegaConf.create()
        OmegaConf.update(change, key, _literal(value))
        config = _merge(config, change, f"{key}={value}")
    for override in overrides:
        config = _merge(config, _parse(override), override)
    return OmegaConf.to_object(config)  # type: ignore[return-value]


def setting_names(kind: type) -> list[str]:
    """Dotted keys of a config class; of a free-form mapping, such as ``backbone``, itself alone."""
    return _dotted_keys(OmegaConf.structured(kind), "")


def config_text(config: Any) -> str:
    """Every setting of a run as YAML, which :func:`load_config` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def save_config(config: Any, path: str | Path) -> None:
    """Write :func:`config_text` to a file."""
    with replacing(path) as temporary:
        temporary.write_text(config_text(config), encoding="utf-8")


def _literal(value: Any) -> Any:
    """Text in which ``${`` does not begin an interpolation."""
    return value.replace("${", r"\${") if isinstance(value, str) else value


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
    if above and path.resolve() in [file.resolve() for file in above]:
        raise ConfigError(f"{above[-1]}: defaults names {path}, which builds on this file itself")
    content = _read_yaml(path, f", which {above[-1]} names under defaults," if above else "")
    names = content.pop("defaults", OmegaConf.create([]))
    if not isinstance(names, ListConfig) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: defaults must be a list of files, as in [other.yaml]")
    layers = [layer for name in names for layer in _layers(path.parent / name, (*above, path))]
    return [*layers, (path, content)]


def _read_yaml(path: Path, named: str = "") -> DictConfig:
    if not path.is_file():
        raise ConfigError(f"config file {path}{named} does not exist")
    try:
        content = OmegaConf.load(path)
    except Exception as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path} must be a mapping of keys to values")
    return content


def _merge(config: DictConfig, change: Any, source: str) -> DictConfig:
    _check_keys(config, change, source)
    try:
        return OmegaConf.merge(config, change)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        reason = str(error).split("\n")[0]
        if "is not a subclass of" in reason:  # speaks of classes, the user of YAML
            reason = "expected a mapping of further keys to values"
        key = f"key {error.full_key!r}: " if error.full_key else ""
        raise ConfigError(f"{source}: {key}{reason}") from error


def _check_keys(config: Any, change: Any, source: str, prefix: str = "") -> None:
    """Refuse keys that the typed defaults do not have; free-form mappings are left alone."""
    if not isinstance(change, DictConfig) or OmegaConf.get_type(config) is dict:
        return
    for key in map(str, change):
        if key not in config:
            everywhere = _dotted_keys(config, prefix)
            below = change._get_node(key)
            tail = _dotted_keys(below, ".")[:1] if isinstance(below, DictConfig) else []
            wanted = "".join([prefix, key, *tail])
            near = difflib.get_close_matches(wanted, everywhere, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"{source}: unknown key {wanted}{hint}\nvalid keys: {', '.join(everywhere)}"
            )
        child = config._get_node(key)
        if isinstance(child, DictConfig):
            _check_keys(child, change._get_node(key), source, f"{prefix}{key}.")


def _dotted_keys(config: DictConfig, prefix: str) -> list[str]:
    keys: list[str] = []
    for key in map(str, config):
        child: Any = config._get_node(key)
        nested = isinstance(child, DictConfig) and OmegaConf.get_type(child) is not dict
        keys += _dotted_keys(child, f"{prefix}{key}.") if nested else [f"{prefix}{key}"]
    return keys
