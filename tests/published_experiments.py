"""What the papers and their released code state for every experiment that has a config."""

from typing import NamedTuple


class Recipe(NamedTuple):
    """How a network is trained."""

    lr: float
    weight_decay: float
    epochs: int
    cosine: int  # epochs until the learning rate is at its lowest
    warmup: int  # epochs
    batch_size: int
    grad_clip: float | None
    head_factor: float = 1.0  # times lr: the rate of the head


class Sizes(NamedTuple):
    """What a network sees of a cloud; tuples run from the finest scale to the coarsest."""

    points: int
    groups: int | tuple[int, ...]
    group_sizes: int | tuple[int, ...]  # members of a group
    radii: tuple[float, ...] | None = None  # of attention


class Experiment(NamedTuple):
    """All that is stated of an experiment."""

    recipe: Recipe | None
    sizes: Sizes
    augmentation: str | None
    label_smoothing: float = 0.0
    C: float | None = None  # of the linear SVM, alone or in pre-training


TUNED = Recipe(5e-4, 0.05, 300, 300, 10, 32, 10.0)
PCP_SCAN = Recipe(2e-5, 0.05, 300, 300, 10, 32, 10.0, 10.0)
PCP_MODELNET = Recipe(1e-5, 0.05, 300, 300, 10, 32, 10.0, 10.0)
PCP_FROZEN = Recipe(1e-4, 0.05, 300, 300, 10, 32, 10.0, 10.0)
PCP_FROZEN_8K = PCP_FROZEN._replace(lr=5e-5)
PCP_EPISODE = Recipe(5e-4, 0.05, 150, 150, 10, 32, 10.0, 10.0)
PCP_FROZEN_EPISODE = PCP_EPISODE._replace(lr=1e-3)
EPISODE = Recipe(5e-4, 0.05, 150, 150, 10, 32, 10.0)
PARTS = Recipe(2e-4, 0.05, 300, 300, 10, 16, 10.0)
PARTS_BERT = Recipe(5e-4, 0.05, 300, 300, 10, 16, None)

ONE_SCALE = Sizes(1024, 64, 32)
ONE_SCALE_2K = Sizes(2048, 128, 32)
ONE_SCALE_4K = Sizes(4096, 256, 32)
ONE_SCALE_8K = Sizes(8192, 512, 32)
M2AE = Sizes(2048, (512, 256, 64), (16, 8, 8), (0.32, 0.64, 1.28))
M2AE_MODELNET = Sizes(1024, (512, 256, 64), (16, 8, 8), (0.32, 0.64, 1.28))
M2AE_SCAN = Sizes(2048, (512, 256, 64), (32, 16, 16), (0.32, 0.64, 1.28))
I2P = Sizes(2048, (512, 256, 64), (16, 8, 8), (0.0, 0.0, 0.0))
I2P_FIRST = Sizes(1024, (512, 256, 64), (16, 8, 8), (0.0, 0.0, 0.0))
I2P_MODELNET = Sizes(1024, (512, 256, 64), (48, 24, 24), (0.24, 0.48, 0.96))
I2P_OBJECTS = Sizes(2048, (512, 256, 64), (32, 16, 16), (0.32, 0.64, 1.28))
I2P_PB = Sizes(2048, (512, 256, 64), (32, 16, 16), (0.48, 0.96, 1.92))

MOVED, TURNED, BOTH = "scale-shift", "rotate", "scale-rotate"
MOVED_AND_TURNED = "scale-shift-rotate"

PRE_TRAINING = {
    "i2p-mae": Experiment(Recipe(1e-3, 0.05, 300, 400, 10, 64, None), I2P, MOVED, C=0.01),
    "pcp-mae": Experiment(Recipe(5e-4, 0.05, 300, 300, 10, 128, None), ONE_SCALE, MOVED_AND_TURNED),
    "point-bert": Experiment(Recipe(5e-4, 0.05, 300, 300, 3, 128, None), ONE_SCALE, MOVED, C=1.0),
    "point-bert-dvae": Experiment(Recipe(5e-4, 5e-4, 300, 300, 10, 64, None), ONE_SCALE, "none"),
    "point-m2ae": Experiment(Recipe(1e-3, 0.05, 300, 400, 10, 128, None), M2AE, MOVED, C=0.01),
    "point-mae": Experiment(Recipe(1e-3, 0.05, 300, 300, 10, 128, None), ONE_SCALE, MOVED),
}
LINEAR_SVM = {
    "modelnet40": Experiment(None, I2P_FIRST, None, C=0.0093),
    "point-bert_modelnet40": Experiment(None, ONE_SCALE, None),
    "point-m2ae_modelnet40": Experiment(None, M2AE_MODELNET, None, C=0.012),
    "point-m2ae_scan_obj-bg": Experiment(None, M2AE, None, C=0.042),
    "point-mae_modelnet40": Experiment(None, ONE_SCALE, None),
    "scan_obj-bg": Experiment(None, I2P, None, C=0.018),
}
FINE_TUNING = {
    "modelnet40": Experiment(TUNED, I2P_MODELNET, MOVED, 0.2),
    "scan_obj-bg": Experiment(TUNED, I2P_OBJECTS, BOTH),
    "scan_obj": Experiment(TUNED, I2P_OBJECTS, BOTH),
    "scan_pb": Experiment(TUNED, I2P_PB, BOTH),
    "pcp-mae_modelnet40": Experiment(PCP_MODELNET, ONE_SCALE, MOVED),
    "pcp-mae_modelnet40_8k": Experiment(PCP_MODELNET, ONE_SCALE_8K, MOVED),
    "pcp-mae_scan_obj-bg": Experiment(PCP_SCAN, ONE_SCALE_2K, TURNED),
    "pcp-mae_scan_obj": Experiment(PCP_SCAN, ONE_SCALE_2K, TURNED),
    "pcp-mae_scan_pb": Experiment(PCP_SCAN, ONE_SCALE_2K, TURNED),
    **{
        f"pcp-mae-{head}_{name}": experiment
        for head in ("linear", "mlp3")
        for name, experiment in {
            "modelnet40": Experiment(PCP_FROZEN, ONE_SCALE, MOVED),
            "modelnet40_8k": Experiment(PCP_FROZEN_8K, ONE_SCALE_8K, MOVED),
            "scan_obj-bg": Experiment(PCP_FROZEN, ONE_SCALE_2K, TURNED),
            "scan_obj": Experiment(PCP_FROZEN, ONE_SCALE_2K, TURNED),
            "scan_pb": Experiment(PCP_FROZEN, ONE_SCALE_2K, TURNED),
        }.items()
    },
    "point-bert_modelnet40": Experiment(TUNED, ONE_SCALE, MOVED),
    "point-bert_modelnet40_2k": Experiment(TUNED, ONE_SCALE_2K, MOVED),
    "point-bert_modelnet40_4k": Experiment(TUNED, ONE_SCALE_4K, MOVED),
    "point-bert_modelnet40_8k": Experiment(TUNED, ONE_SCALE_8K, MOVED),
    "point-bert_scan_obj-bg": Experiment(TUNED, ONE_SCALE, MOVED),
    "point-bert_scan_obj-bg_aug": Experiment(TUNED, ONE_SCALE, TURNED),
    "point-bert_scan_obj": Experiment(TUNED, ONE_SCALE, MOVED),
    "point-bert_scan_obj_aug": Experiment(TUNED, ONE_SCALE, TURNED),
    "point-bert_scan_pb": Experiment(TUNED, ONE_SCALE, MOVED),
    "point-bert_scan_pb_aug": Experiment(TUNED, ONE_SCALE, TURNED),
    "point-m2ae_modelnet40": Experiment(TUNED, M2AE_MODELNET, MOVED, 0.3),
    "point-m2ae_scan_obj-bg": Experiment(TUNED, M2AE_SCAN, MOVED),
    "point-m2ae_scan_obj-bg_aug": Experiment(TUNED, M2AE_SCAN, TURNED),
    "point-m2ae_scan_obj": Experiment(TUNED, M2AE_SCAN, MOVED),
    "point-m2ae_scan_obj_aug": Experiment(TUNED, M2AE_SCAN, TURNED),
    "point-m2ae_scan_pb": Experiment(TUNED, M2AE_SCAN, MOVED),
    "point-m2ae_scan_pb_aug": Experiment(TUNED, M2AE_SCAN, TURNED),
    "point-mae_modelnet40": Experiment(TUNED, ONE_SCALE, MOVED),
    "point-mae_modelnet40_8k": Experiment(TUNED, ONE_SCALE_8K, MOVED),
    "point-mae_scan_obj-bg": Experiment(TUNED, ONE_SCALE_2K, MOVED),
    "point-mae_scan_obj-bg_aug": Experiment(TUNED, ONE_SCALE_2K, TURNED),
    "point-mae_scan_obj": Experiment(TUNED, ONE_SCALE_2K, MOVED),
    "point-mae_scan_obj_aug": Experiment(TUNED, ONE_SCALE_2K, TURNED),
    "point-mae_scan_pb": Experiment(TUNED, ONE_SCALE_2K, MOVED),
    "point-mae_scan_pb_aug": Experiment(TUNED, ONE_SCALE_2K, TURNED),
}
PEFT = {
    "i2p-mae_modelnet40": Experiment(TUNED, I2P_MODELNET, MOVED, 0.2),
    "i2p-mae_scan_pb": Experiment(TUNED, I2P_PB, MOVED),
    "i2p-mae_scan_pb_aug": Experiment(TUNED, I2P_PB, BOTH),
    "point-bert_modelnet40": Experiment(TUNED, ONE_SCALE, MOVED),
    "point-bert_scan_pb": Experiment(TUNED, ONE_SCALE, MOVED),
    "point-bert_scan_pb_aug": Experiment(TUNED, ONE_SCALE, BOTH),
    "point-m2ae_modelnet40": Experiment(TUNED, M2AE_MODELNET, MOVED, 0.3),
    "point-m2ae_scan_pb": Experiment(TUNED, M2AE_SCAN, MOVED),
    "point-m2ae_scan_pb_aug": Experiment(TUNED, M2AE_SCAN, BOTH),
    "point-mae_modelnet40": Experiment(TUNED, ONE_SCALE, MOVED),
    "point-mae_scan_pb": Experiment(TUNED, ONE_SCALE_2K, MOVED),
    "point-mae_scan_pb_aug": Experiment(TUNED, ONE_SCALE_2K, BOTH),
}
FEW_SHOT = {
    "pcp-mae": Experiment(PCP_EPISODE, ONE_SCALE, TURNED),
    "pcp-mae-linear": Experiment(PCP_FROZEN_EPISODE, ONE_SCALE, TURNED),
    "pcp-mae-mlp3": Experiment(PCP_FROZEN_EPISODE, ONE_SCALE, TURNED),
    "point-bert": Experiment(EPISODE, ONE_SCALE, MOVED),
    "point-m2ae": Experiment(EPISODE, M2AE_MODELNET, MOVED),
    "point-mae": Experiment(EPISODE, ONE_SCALE, MOVED),
}
PART_SEGMENTATION = {
    "point-bert": Experiment(PARTS_BERT, ONE_SCALE_2K, "part-segmentation"),
    "point-m2ae": Experiment(PARTS, M2AE, "part-segmentation"),
    "point-mae": Experiment(PARTS, ONE_SCALE_2K, "part-segmentation"),
}
EXPERIMENTS = {
    f"{folder}/{name}": experiment
    for folder, experiments in {
        "pre-training": PRE_TRAINING,
        "linear-svm": LINEAR_SVM,
        "fine-tuning": FINE_TUNING,
        "peft": PEFT,
        "few-shot": FEW_SHOT,
        "part-segmentation": PART_SEGMENTATION,
    }.items()
    for name, experiment in experiments.items()
}
"""By the name of the config without its ending."""
