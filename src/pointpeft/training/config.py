"""Typed settings of training runs; `config_files.py` reads and writes them."""

import math
from dataclasses import dataclass, field
from typing import Any

from pointpeft.cards import check_license
from pointpeft.compat.names import PROTOCOLS, RULES
from pointpeft.errors import ConfigError, check_choices, check_sizes, check_text

__all__ = [
    "VALIDATION_BATCH",
    "DataConfig",
    "FewShotConfig",
    "FinetuneConfig",
    "OptimizerConfig",
    "PretrainConfig",
    "RunConfig",
    "SvmCheckConfig",
    "SvmConfig",
    "TrainerConfig",
    "VerbConfig",
]

VALIDATION_BATCH = 2
"""Training batches in a batch of validation, as in the papers."""


@dataclass
class DataConfig:
    """Where shapes come from and how they are prepared and augmented."""

    # a folder <class>/<files>, an .npz, or "homeobjects", "mechparts", "mechparts-scan"; for
    # pre-training a folder of shards, too
    source: str = "homeobjects"
    variant: str | None = None  # which benchmark data set, where a folder holds several
    num_points: int | None = None  # points the model sees; None: what the model expects
    normalize: str = "unit_ball"  # centred, with largest norm 1; or "none": as stored
    up_axis: str = "y"  # axis of the files that points up
    # random changes in training: "scale-shift", "rotate", "scale-shift-rotate", "scale-rotate",
    # "part-segmentation", "scan", "none"; None: what suits the task
    augmentation: str | None = None
    on_error: str = "skip"  # unusable items and shards: "skip" and list them, or "refuse"
    val_fraction: float = 0.2  # share of train that a missing validation or test split gets
    # with protocol=published, what is trained on: "train", "test", "whole", "trainval"
    train_split: str = "train"
    seed: int = 0  # of surface sampling and splits

    def __post_init__(self) -> None:
        check_sizes(self, ["num_points"], prefix="data.")
        if self.augmentation == "scan" and self.normalize == "none":
            raise ConfigError(
                "data.augmentation=scan puts each scan into the unit ball, and data.normalize=none "
                "leaves what it is tested on as stored: take data.normalize=unit_ball"
            )


@dataclass
class OptimizerConfig:
    """AdamW with a warm-up and a cosine."""

    lr: float | None = None  # largest learning rate; None: what suits the tuning method
    min_lr: float = 1e-6  # learning rate at the end of the cosine
    weight_decay: float = 0.05  # of matrices; biases, norms and tokens have none
    head_lr_factor: float = 1.0  # times lr: the rate of the head and the class token
    warmup: float = 0.1  # share of the epochs in which the learning rate rises
    grad_clip: float | None = 10.0  # largest L2 norm of the gradient; None: any
    rule: str = "default"  # or "published": schedule and weight decay of the papers' code
    cosine_epochs: int | None = None  # rule=published: length of the cosine; None: trainer.epochs
    warmup_epochs: int = 10  # rule=published: epochs in which the learning rate rises
    # as Point-MAE's part segmentation does: a step before the gradient is clipped, and one after
    steps_twice: bool = False
    bn_momentum_decay: float | None = None  # factor of BatchNorm's momentum; None: constant
    bn_momentum_step: int = 20  # epochs from one such decay to the next

    def __post_init__(self) -> None:
        check_choices(self, ["rule"], RULES, prefix="optimizer.")
        check_sizes(self, ["warmup_epochs"], least=0, prefix="optimizer.")
        check_sizes(self, ["bn_momentum_step", "cosine_epochs"], prefix="optimizer.")
        if self.bn_momentum_decay is not None and not 0 < self.bn_momentum_decay <= 1:
            raise ConfigError(
                f"optimizer.bn_momentum_decay must lie in (0, 1], got {self.bn_momentum_decay}"
            )
        if not 0 < self.head_lr_factor < math.inf:
            raise ConfigError(
                f"optimizer.head_lr_factor must be positive, got {self.head_lr_factor}"
            )
        if self.lr is not None and not self.lr > 0:
            raise ConfigError(f"optimizer.lr must be positive, got {self.lr}")
        if not 0 <= self.min_lr <= (self.lr or 1.0) * min(1.0, self.head_lr_factor):
            raise ConfigError(f"optimizer.min_lr must lie in [0, lr], got {self.min_lr}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"optimizer.warmup is a share in [0, 1), got {self.warmup}")


@dataclass
class TrainerConfig:
    """Length of training and what it runs on; passed through to Lightning."""

    epochs: int = 50  # passes over the data
    batch_size: int = 16  # shapes of a training step, of all processes together
    patience: int | None = None  # stop after so many epochs without a better validation score
    precision: str = "32-true"  # or "bf16-mixed", "16-mixed"
    accelerator: str = "auto"  # "cpu", "gpu"; a GPU is taken if there is one
    devices: str = "auto"  # how many processes of a machine: "2"
    strategy: str = "auto"  # of several processes: "ddp"
    num_nodes: int = 1  # machines
    num_workers: int = 0  # processes that load batches; only those of shards gain by them
    deterministic: bool = True  # equal settings give equal results
    sync_batchnorm: bool = False  # BatchNorm over the batches of all processes, on GPUs

    def __post_init__(self) -> None:
        check_sizes(self, ["epochs", "patience", "num_nodes"], prefix="trainer.")
        check_sizes(self, ["batch_size"], least=2, prefix="trainer.")  # BatchNorm needs two
        check_sizes(self, ["num_workers"], least=0, prefix="trainer.")


@dataclass
class FewShotConfig:
    """Episodes of few classes with few shapes each; every fold is tuned and tested by itself."""

    way: int | None = None  # classes of an episode; None: train on all of the data instead
    shot: int = 10  # training shapes of a class in an episode
    queries: int = 20  # test shapes of a class in an episode
    folds: int = 10  # number of episodes
    fold: int | None = None  # number of the one episode to run, from 0; None: all

    def __post_init__(self) -> None:
        check_sizes(self, ["way"], least=2, prefix="few_shot.")
        check_sizes(self, ["shot", "queries", "folds"], prefix="few_shot.")
        check_sizes(self, ["fold"], least=0, prefix="few_shot.")
        if self.fold is not None and self.way is None:
            raise ConfigError("few_shot.fold needs few_shot.way, the classes of an episode")


@dataclass
class FinetuneConfig:
    """Settings of ``pointpeft finetune``."""

    task: str = "classification"  # of shapes, or "part_segmentation" of their points
    model: str = "point_mae_small"  # a name of `pointpeft models`
    preset: str | None = None  # sizes of the papers: "modelnet40", "scanobjectnn", "shapenetpart"
    # weights of the backbone: a file, the folder of a pre-training run, "embedded", "random";
    # None: embedded ones if the model has any
    checkpoint: str | None = None
    # settings of the backbone, as in backbone.num_groups=32; they win over the preset
    backbone: dict[str, Any] = field(default_factory=dict)
    # one of docs/methods.md, such as "svm" or "lora", or one of your own, as in
    # my_package.module:MyConfig; None: point-peft, and full for part segmentation
    method: str | None = None
    # settings of the method, as in peft.num_prompts=5
    peft: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    label_smoothing: float = 0.0  # share of the target that goes to the other classes
    # "balanced": classes count alike in training and in the choice of the epoch; "none": shapes
    # do, but in that choice where classes differ more than tenfold
    class_weights: str = "none"
    # "honest" selects epochs on the validation split; "published" does all as the papers' code,
    # which selects them on the test split
    protocol: str = "honest"
    license: str | None = None  # of the adapter, where it is given away: "MIT"
    # of the data that is trained on; None: as the data sets say that come with the package
    data_license: str | None = None
    save_published: bool = False  # write a .pth that the papers' repositories load too
    votes: int = 0  # measure the mean of so many passes over differently drawn points too
    few_shot: FewShotConfig = field(default_factory=FewShotConfig)
    seed: int = 0  # of everything random
    seeds: int = 1  # repeat with seed, seed + 1, ..., and report the spread

    def __post_init__(self) -> None:
        check_text(self)
        check_sizes(self, ["seeds"])
        check_sizes(self, ["seed", "votes"], least=0)
        check_choices(self, ["protocol"], PROTOCOLS)
        check_choices(self, ["class_weights"], ("none", "balanced"))
        check_license("license", self.license)
        check_license("data_license", self.data_license)
        if self.class_weights == "balanced" and (
            self.task != "classification" or self.protocol != "honest"
        ):
            raise ConfigError(
                "class_weights=balanced is for task=classification and protocol=honest"
            )
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

    source: str | None = None  # labelled data, as for fine-tuning; None: no such check
    variant: str | None = None  # as data.variant
    normalize: str | None = None  # null: as data.normalize, and "none" for protocol=published
    up_axis: str | None = None  # null: as data.up_axis
    num_points: int = 1024  # as data.num_points
    farthest: bool = False  # protocol=published: farthest points, not the first ones stored
    machine: str = "svc"  # or "linear_svc": one class against the rest, as in Point-BERT's code
    # inverse regularisation strength; None: cross-validated on train, 1 where a class has one shape
    C: float | None = None
    every: int = 1  # epochs from one check to the next

    def __post_init__(self) -> None:
        check_sizes(self, ["every", "num_points"], prefix="svm.")
        check_choices(self, ["machine"], ("svc", "linear_svc"), prefix="svm.")
        if self.C is not None and not 0 < self.C < math.inf:
            raise ConfigError(f"svm.C must be positive and finite, got {self.C}")
        if self.C is None and self.machine == "linear_svc":
            raise ConfigError("svm.machine=linear_svc needs svm.C; in Point-BERT 1.0")


@dataclass
class SvmConfig:
    """Settings of ``pointpeft svm``."""

    model: str = "point_mae_small"  # a name of `pointpeft models`
    preset: str | None = None  # sizes of the papers: "modelnet40", "scanobjectnn", "shapenetpart"
    # weights of the backbone: a file, the folder of a pre-training run, "embedded", "random";
    # None: embedded ones if the model has any
    checkpoint: str | None = None
    # settings of the backbone, as in backbone.num_groups=32; they win over the preset
    backbone: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    # inverse regularisation strength; None: cross-validated on train, 1 where a class has one shape
    C: float | None = None
    protocol: str = "honest"  # or "published": as the papers' code
    seed: int = 0  # of random weights

    def __post_init__(self) -> None:
        check_sizes(self, ["seed"], least=0)
        check_choices(self, ["protocol"], PROTOCOLS)
        if self.data.augmentation not in (None, "none"):
            raise ConfigError(
                f"data.augmentation={self.data.augmentation}: the SVM is fitted to shapes as they "
                "are, leave it out; `pointpeft finetune --method svm data.augmentation=scan` fits "
                "one to scans"
            )
        if self.C is not None and not 0 < self.C < math.inf:
            raise ConfigError(f"C must be positive and finite, got {self.C}")


@dataclass
class PretrainConfig:
    """Settings of ``pointpeft pretrain``."""

    model: str = "point_mae_small"  # a name of `pointpeft models`
    preset: str | None = None  # sizes of the papers: "modelnet40", "scanobjectnn", "shapenetpart"
    checkpoint: str | None = None  # weights to start from; None: random ones
    # settings of the backbone, as in backbone.num_groups=32; they win over the preset
    backbone: dict[str, Any] = field(default_factory=dict)
    # masking, decoder and loss, as in pretraining.mask_ratio=0.7
    pretraining: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    procedural: int = 0  # made-up shapes beside the data in every epoch, new ones each time
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(lr=1e-3, warmup=1 / 30, grad_clip=None)
    )
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(epochs=300, batch_size=128)
    )
    svm: SvmCheckConfig = field(default_factory=SvmCheckConfig)
    validate_every: int | None = None  # of a tokenizer: epochs from one validation to the next
    # minutes from one checkpoint to the next within an epoch; None: at the end of epochs alone
    checkpoint_minutes: float | None = 30.0
    # a loss that is not finite, or a checkpoint that cannot be written: "stop", or "skip" it
    on_fault: str = "stop"
    protocol: str = "honest"  # or "published": as the papers' code
    save_published: bool = False  # write a .pth that the papers' repositories load too
    seed: int = 0  # of everything random

    def __post_init__(self) -> None:
        check_text(self)
        check_sizes(self, ["seed", "procedural"], least=0)
        check_sizes(self, ["validate_every"])
        check_choices(self, ["on_fault"], ("stop", "skip"))
        if self.checkpoint_minutes is not None and not self.checkpoint_minutes > 0:
            raise ConfigError(
                f"checkpoint_minutes must be positive or null, got {self.checkpoint_minutes}"
            )
        if self.trainer.patience is not None:
            raise ConfigError("trainer.patience is for fine-tuning: pre-training never stops early")
        check_choices(self, ["protocol"], PROTOCOLS)


RunConfig = FinetuneConfig | PretrainConfig
"""Settings of a run, which trains."""
VerbConfig = RunConfig | SvmConfig
"""Settings of a run, or of a measurement by a linear SVM."""
