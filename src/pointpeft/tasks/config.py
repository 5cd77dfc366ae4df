"""Typed settings of training runs; `config_files.py` reads and writes them."""

from dataclasses import dataclass, field
from typing import Any

from pointpeft.errors import ConfigError, check_choices, check_sizes

__all__ = [
    "PROTOCOLS",
    "VALIDATION_BATCH",
    "DataConfig",
    "FewShotConfig",
    "FinetuneConfig",
    "OptimizerConfig",
    "PretrainConfig",
    "SvmCheckConfig",
    "SvmConfig",
    "TrainerConfig",
]

PROTOCOLS = ("honest", "published")
"""How models are selected and measured: on a validation split, or as the papers' code did."""

VALIDATION_BATCH = 2
"""Training batches in a batch of validation, as published."""


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
    bn_momentum_decay: float | None = None  # of BatchNorm's momentum, from 0.1; None: constant
    bn_momentum_step: int = 20  # epochs between two such decays

    def __post_init__(self) -> None:
        check_choices(self, ["rule"], ("default", "published"), prefix="optimizer.")
        check_sizes(self, ["warmup_epochs"], least=0, prefix="optimizer.")
        check_sizes(self, ["bn_momentum_step"], prefix="optimizer.")
        if self.bn_momentum_decay is not None and not 0 < self.bn_momentum_decay <= 1:
            raise ConfigError(
                f"optimizer.bn_momentum_decay must lie in (0, 1], got {self.bn_momentum_decay}"
            )
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
            if self.way is None:
                raise ConfigError("few_shot.fold needs few_shot.way, the classes of an episode")


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

    @property
    def extra_epochs(self) -> int:
        """Epochs beyond ``trainer.epochs``: published loops run one, but for part segmentation."""
        return int(self.protocol == "published" and self.task != "part_segmentation")

    def __post_init__(self) -> None:
        check_sizes(self, ["seeds"])
        check_sizes(self, ["seed", "votes"], least=0)
        check_choices(self, ["protocol"], PROTOCOLS)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing!r}")
        if self.optimizer.steps_twice and self.trainer.precision in ("16", "16-mixed"):
            raise ConfigError(
                "optimizer.steps_twice=true takes a second step with gradients that float16 may "
                "have overflowed in; use trainer.precision=bf16-mixed or 32-true"
            )


@dataclass
class SvmCheckConfig:
    """A linear SVM on the features, again and again while a backbone is pre-trained."""

    source: str | None = None  # labelled data as for fine-tuning; None: no such check
    variant: str | None = None
    normalize: str = "none"
    num_points: int = 1024
    farthest: bool = False  # published protocol: farthest points, not the first ones stored
    machine: str = "svc"  # or "linear_svc": one class against the rest, as Point-BERT's code has it
    C: float | None = None  # inverse regularisation; None: by cross-validation on train
    every: int = 1  # epochs

    def __post_init__(self) -> None:
        check_sizes(self, ["every", "num_points"], prefix="svm.")
        check_choices(self, ["machine"], ("svc", "linear_svc"), prefix="svm.")
        if self.C is not None and not self.C > 0:
            raise ConfigError(f"svm.C must be positive, got {self.C}")
        if self.C is None and self.machine == "linear_svc":
            raise ConfigError("svm.machine=linear_svc needs svm.C; published: 1.0")


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
    validate_every: int | None = None  # epochs between a tokenizer's rebuildings of unseen shapes
    protocol: str = "honest"  # or "published"
    save_published: bool = False  # also as a file that the published repositories load
    seed: int = 0

    @property
    def extra_epochs(self) -> int:
        """Epochs beyond ``trainer.epochs``: published loops run one."""
        return int(self.protocol == "published")

    def __post_init__(self) -> None:
        check_sizes(self, ["seed", "procedural"], least=0)
        if self.validate_every is not None:
            check_sizes(self, ["validate_every"])
        if self.trainer.patience is not None:
            raise ConfigError("trainer.patience is for fine-tuning: pre-training never stops early")
        check_choices(self, ["protocol"], PROTOCOLS)
