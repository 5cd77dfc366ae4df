"""The models of the registry: published ones, and small ones for CPUs."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pointpeft.models.dvae import DiscreteVAE, DiscreteVAEConfig
from pointpeft.models.heads import Classifier
from pointpeft.models.i2p_mae import I2PMAE, I2PMAEPretraining, I2PMAEPretrainingConfig
from pointpeft.models.objective import Pretraining
from pointpeft.models.part_segmenters import (
    PartSegmenter,
    PointBERTPartSegmenter,
    PointM2AEPartSegmenter,
    PointMAEPartSegmenter,
)
from pointpeft.models.pcp_mae import PCPMAE, PCPMAEConfig
from pointpeft.models.pcp_mae_pretraining import PCPMAEPretraining, PCPMAEPretrainingConfig
from pointpeft.models.point_bert import PointBERTClassifier, PointBERTPretrainingConfig
from pointpeft.models.point_bert_pretraining import PointBERTPretraining
from pointpeft.models.point_m2ae import PointM2AE, PointM2AEClassifier, PointM2AEConfig
from pointpeft.models.point_m2ae_pretraining import PointM2AEPretraining, PointM2AEPretrainingConfig
from pointpeft.models.point_mae import PointMAE, PointMAEClassifier, PointMAEConfig
from pointpeft.models.point_mae_pretraining import PointMAEPretraining, PointMAEPretrainingConfig
from pointpeft.models.trunk import Trunk

__all__ = ["ENTRIES", "ModelEntry", "Preset"]


@dataclass(frozen=True)
class Preset:
    """Sizes of the papers for one data set.

    Attributes:
        num_points: points per cloud that the model expects.
        overrides: settings of the model that differ from the entry's own.
        normalize: how clouds are normalised: "unit_ball", or "none" where they stay as stored.
    """

    num_points: int
    overrides: dict[str, Any] = field(default_factory=dict)
    normalize: str = "unit_ball"


@dataclass(frozen=True)
class ModelEntry:
    """One name of the registry.

    Attributes:
        name: what :func:`pointpeft.create_model` is called with.
        summary: one line for listings.
        paper: where the network was published.
        licence: terms of the released weights.
        config: settings without a preset.
        num_points: points per cloud without a preset.
        normalize: how clouds are normalised without a preset, as in :class:`Preset`.
        presets: sizes of the papers by data set name.
        reported: reported accuracies in percent, by data set.
        configs: experiments of the papers with it, patterns of files below the folder of configs.
        up_axis: axis that points up in the clouds it was pre-trained on.
        backbone: builds the encoder from ``config``; None where there is none.
        classifier: builds the classification model from an encoder and a class count.
        segmenter: builds the part-segmentation model from an encoder, a number of parts and a
            number of categories.
        pretraining: builds the pre-training model from an encoder and ``pretraining_config``.
        pretraining_config: settings of pre-training.
        tokenizer: builds, from ``config``, a network that is pre-trained by itself.
    """

    name: str
    summary: str
    paper: str
    licence: str
    config: Any
    num_points: int
    presets: dict[str, Preset] = field(default_factory=dict)
    backbone: Callable[[Any], Trunk] | None = None
    classifier: Callable[[Any, int], Classifier] | None = None
    segmenter: Callable[[Any, int, int], PartSegmenter] | None = None
    pretraining: Callable[[Any, Any], Pretraining] | None = None
    pretraining_config: Any = None
    tokenizer: Callable[[Any], DiscreteVAE] | None = None
    reported: dict[str, float] = field(default_factory=dict)
    configs: tuple[str, ...] = ()
    up_axis: str = "y"
    normalize: str = "unit_ball"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the entry has a network for."""
        builders = {
            "features": self.backbone,
            "classification": self.classifier,
            "part_segmentation": self.segmenter,
            "pretraining": self.pretraining or self.tokenizer,
        }
        return tuple(task for task, builder in builders.items() if builder is not None)


POINT_MAE = ModelEntry(
    name="point_mae",
    summary="Point-MAE of the paper: 12 blocks of 384 channels",
    paper="Pang et al., Masked Autoencoders for Point Cloud Self-supervised Learning, ECCV 2022, "
    "arXiv 2203.06604",
    licence="released weights: MIT (Point-MAE repository)",
    config=PointMAEConfig(),
    num_points=1024,
    presets={
        "modelnet40": Preset(1024, {"skip_near_origin": True}),
        "scanobjectnn": Preset(2048, {"num_groups": 128, "skip_near_origin": True}, "none"),
        "shapenetpart": Preset(2048, {"num_groups": 128, "skip_near_origin": True}),
    },
    backbone=PointMAE,
    classifier=PointMAEClassifier,
    segmenter=PointMAEPartSegmenter,
    pretraining=PointMAEPretraining,
    pretraining_config=PointMAEPretrainingConfig(),
    reported={
        "ScanObjectNN PB-T50-RS": 85.18,
        "ScanObjectNN OBJ-BG": 90.02,
        "ScanObjectNN OBJ-ONLY": 88.29,
        # The repository gives a command that votes, and does not say which numbers are of it.
        "ModelNet40, voting not stated": 93.80,
        "ModelNet40, without voting (Point-PEFT's paper)": 93.2,
        "ModelNet40, 8,192 points, voting not stated": 94.04,
        "ModelNet40, 5-way 10-shot": 96.3,
        "ModelNet40, 5-way 20-shot": 97.8,
        "ModelNet40, 10-way 10-shot": 92.6,
        "ModelNet40, 10-way 20-shot": 95.0,
        "ShapeNetPart, instance mIoU": 86.1,
    },
    configs=("*/point-mae*.yaml",),
)

POINT_BERT = dataclasses.replace(
    POINT_MAE,
    name="point_bert",
    summary="Point-BERT of the paper: Point-MAE's encoder with a 256-channel patch embedding",
    paper="Yu et al., Point-BERT: Pre-training 3D Point Cloud Transformers with Masked Point "
    "Modeling, CVPR 2022, arXiv 2111.14819",
    licence="released weights: MIT (Point-BERT repository)",
    config=PointMAEConfig(embed_dim=256),
    presets={
        "modelnet40": Preset(1024, {"skip_near_origin": True}),
        "scanobjectnn": Preset(1024, {"skip_near_origin": True}, "none"),
        "shapenetpart": Preset(2048, {"num_groups": 128, "skip_near_origin": True}),
    },
    classifier=PointBERTClassifier,
    segmenter=PointBERTPartSegmenter,
    pretraining=PointBERTPretraining,
    pretraining_config=PointBERTPretrainingConfig(),
    reported={
        "ScanObjectNN PB-T50-RS": 83.07,
        "ScanObjectNN OBJ-BG": 87.43,
        "ScanObjectNN OBJ-ONLY": 88.12,
        "ModelNet40": 92.67,
        "ModelNet40, with voting": 93.24,
        "ModelNet40, 4,096 points": 92.91,
        "ModelNet40, 8,192 points": 93.19,
    },
    configs=("*/point-bert.yaml", "*/point-bert_*.yaml"),
)

POINT_BERT_DVAE = ModelEntry(
    name="point_bert_dvae",
    summary="Point-BERT's tokenizer: a discrete variational autoencoder of patches",
    paper=POINT_BERT.paper,
    licence=POINT_BERT.licence,
    config=DiscreteVAEConfig(),
    num_points=1024,
    tokenizer=DiscreteVAE,
    configs=("pre-training/point-bert-dvae.yaml",),
)

POINT_BERT_SMALL = dataclasses.replace(
    POINT_BERT,
    name="point_bert_small",
    summary="Point-BERT narrowed for CPUs: 6 blocks of 192 channels, 48 patches",
    licence="no released weights",
    config=PointMAEConfig(
        num_groups=48, group_size=32, dim=192, depth=6, num_heads=6, patch_widths=(32, 64, 96),
        embed_dim=128,
    ),
    presets={},
    pretraining_config=PointBERTPretrainingConfig(queue_size=4096, num_tokens=1024),
    reported={},
    configs=(),
)  # fmt: skip

POINT_MAE_SMALL = dataclasses.replace(
    POINT_MAE,
    name="point_mae_small",
    summary="Point-MAE narrowed for CPUs: 6 blocks of 192 channels, 48 patches, slim mini-PointNet",
    licence="embedded weights: Apache-2.0, made from procedural shapes",
    config=PointMAEConfig(
        num_groups=48, group_size=32, dim=192, depth=6, num_heads=6, patch_widths=(32, 64, 96)
    ),
    presets={},
    pretraining_config=PointMAEPretrainingConfig(decoder_depth=2, embed_masked=False),
    reported={},
    configs=(),
)

PCP_MAE = dataclasses.replace(
    POINT_MAE,
    name="pcp_mae",
    summary="PCP-MAE of the paper: Point-MAE's encoder, pre-trained to predict hidden centers",
    paper="Zhang et al., PCP-MAE: Learning to Predict Centers for Point Masked Autoencoders, "
    "NeurIPS 2024, arXiv 2408.08753",
    licence="released weights: MIT (PCP-MAE repository)",
    config=PCPMAEConfig(),
    backbone=PCPMAE,
    pretraining=PCPMAEPretraining,
    pretraining_config=PCPMAEPretrainingConfig(),
    reported={
        # By the best of several seeds and of their epochs on the test split.
        "ScanObjectNN PB-T50-RS": 90.35,
        "ScanObjectNN OBJ-BG": 95.52,
        "ScanObjectNN OBJ-ONLY": 94.32,
        "ModelNet40": 94.1,
        "ModelNet40, with voting": 94.4,
        "ModelNet40, 5-way 10-shot": 97.4,
        "ModelNet40, 5-way 20-shot": 99.1,
        "ModelNet40, 10-way 10-shot": 93.5,
        "ModelNet40, 10-way 20-shot": 95.9,
        "ShapeNetPart, class mIoU": 84.9,
    },
    configs=("*/pcp-mae*.yaml",),
)

PCP_MAE_SMALL = dataclasses.replace(
    PCP_MAE,
    name="pcp_mae_small",
    summary="PCP-MAE narrowed for CPUs: 6 blocks of 192 channels, 48 patches, slim mini-PointNet",
    licence="no released weights",
    config=PCPMAEConfig(
        num_groups=48, group_size=32, dim=192, depth=6, num_heads=6, patch_widths=(32, 64, 96)
    ),
    presets={},
    pretraining_config=PCPMAEPretrainingConfig(decoder_depth=2),
    reported={},
    configs=(),
)

POINT_M2AE = ModelEntry(
    name="point_m2ae",
    summary="Point-M2AE of the paper: three scales of 96, 192 and 384 channels, 5 blocks each",
    paper="Zhang et al., Point-M2AE: Multi-scale Masked Autoencoders for Hierarchical Point Cloud "
    "Pre-training, NeurIPS 2022, arXiv 2205.14401",
    licence="released weights: none stated with the files; see the Point-M2AE repository",
    config=PointM2AEConfig(),
    num_points=2048,
    presets={
        "modelnet40": Preset(1024, {"skip_near_origin": True}),
        "scanobjectnn": Preset(
            2048,
            {"group_sizes": (32, 16, 16), "pooling": "concat", "skip_near_origin": True},
            "none",
        ),
        "shapenetpart": Preset(2048, {"skip_near_origin": True}),
    },
    backbone=PointM2AE,
    classifier=PointM2AEClassifier,
    segmenter=PointM2AEPartSegmenter,
    pretraining=PointM2AEPretraining,
    pretraining_config=PointM2AEPretrainingConfig(),
    reported={
        "ScanObjectNN PB-T50-RS": 86.43,
        "ScanObjectNN OBJ-BG": 91.22,
        "ScanObjectNN OBJ-ONLY": 88.81,
        "ModelNet40": 93.43,
        "ModelNet40, with voting": 93.96,
        "ModelNet40, linear SVM": 92.87,
        "ScanObjectNN OBJ-BG, linear SVM": 84.12,
        "ModelNet40, 5-way 10-shot": 96.8,
        "ModelNet40, 5-way 20-shot": 98.3,
        "ModelNet40, 10-way 10-shot": 92.3,
        "ModelNet40, 10-way 20-shot": 95.0,
        "ShapeNetPart, class mIoU": 84.86,
        "ShapeNetPart, instance mIoU": 86.51,
    },
    configs=("*/point-m2ae*.yaml",),
)

POINT_M2AE_SMALL = dataclasses.replace(
    POINT_M2AE,
    name="point_m2ae_small",
    summary="Point-M2AE narrowed for CPUs: scales of 48, 96 and 192 channels, 2, 2 and 3 blocks",
    licence=POINT_MAE_SMALL.licence,
    config=PointM2AEConfig(
        num_groups=(192, 96, 32), dims=(48, 96, 192), depths=(2, 2, 3), patch_widths=(32, 64, 96)
    ),
    num_points=1024,
    presets={},
    reported={},
    configs=(),
)

_I2P_SCAN = {"group_sizes": (32, 16, 16), "pooling": "concat_all", "skip_near_origin": True}

I2P_MAE = dataclasses.replace(
    POINT_M2AE,
    name="i2p_mae",
    summary="I2P-MAE of the paper: Point-M2AE's network, pre-trained with an image encoder",
    paper="Zhang et al., Learning 3D Representations from 2D Pre-trained Models via Image-to-Point "
    "Masked Autoencoders, CVPR 2023, arXiv 2212.06785",
    licence="released weights: none stated (I2P-MAE repository)",
    presets={
        "modelnet40": Preset(
            1024,
            {
                "group_sizes": (48, 24, 24),
                "local_radius": (0.24, 0.48, 0.96),
                "skip_near_origin": True,
            },
        ),
        "scanobjectnn": Preset(2048, _I2P_SCAN | {"local_radius": (0.48, 0.96, 1.92)}, "none"),
        "scanobjectnn_objects": Preset(  # OBJ-BG and OBJ-ONLY
            2048, _I2P_SCAN | {"local_radius": (0.32, 0.64, 1.28)}, "none"
        ),
        "shapenetpart": Preset(  # as of Point-M2AE
            2048, {"local_radius": (0.32, 0.64, 1.28), "skip_near_origin": True}
        ),
    },
    backbone=I2PMAE,
    pretraining=I2PMAEPretraining,
    pretraining_config=I2PMAEPretrainingConfig(),
    reported={
        "ScanObjectNN PB-T50-RS": 90.11,
        "ScanObjectNN OBJ-BG": 94.15,
        "ScanObjectNN OBJ-ONLY": 91.57,
        "ModelNet40": 93.67,
        "ModelNet40, with voting": 94.06,
        "ModelNet40, linear SVM": 93.35,
        "ScanObjectNN OBJ-BG, linear SVM": 87.09,
    },
    configs=("*/i2p-mae*.yaml", "linear-svm/[ms]*.yaml", "fine-tuning/[ms]*.yaml"),
)

I2P_MAE_SMALL = dataclasses.replace(
    I2P_MAE,
    name="i2p_mae_small",
    summary="I2P-MAE narrowed for CPUs: scales of 48, 96 and 192 channels, 2, 2 and 3 blocks",
    licence="no released weights",
    config=POINT_M2AE_SMALL.config,
    num_points=POINT_M2AE_SMALL.num_points,
    presets={},
    reported={},
    configs=(),
)

ENTRIES = (
    I2P_MAE,
    I2P_MAE_SMALL,
    PCP_MAE,
    PCP_MAE_SMALL,
    POINT_BERT,
    POINT_BERT_DVAE,
    POINT_BERT_SMALL,
    POINT_M2AE,
    POINT_M2AE_SMALL,
    POINT_MAE,
    POINT_MAE_SMALL,
)
