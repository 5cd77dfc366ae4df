"""Published keys whose meaning hangs on their value, on the model or on other keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from pointpeft.errors import ConfigError
from pointpeft.training.config import FinetuneConfig, PretrainConfig, SvmConfig

if TYPE_CHECKING:
    from pointpeft.models.entries import ModelEntry

__all__ = ["MEANINGS", "SCALES", "Given", "has_scales", "parsed"]


def has_scales(model: str) -> bool:
    """Whether a backbone has several scales."""
    from pointpeft.models import get_entry

    return hasattr(get_entry(model).config, "group_sizes")


@dataclass(frozen=True)
class Given:
    """One override under a published key, and what it is seen with.

    Attributes:
        override: as it was typed.
        name: its key, without the nesting that some published configs have.
        value: its value, read as YAML.
        settings: the config of the command.
        beside: values of all overrides of the call by their keys, read as YAML.
    """

    override: str
    name: str
    value: Any
    settings: Any
    beside: Mapping[str, Any]

    @property
    def entry(self) -> "ModelEntry":
        """The model."""
        from pointpeft.models import get_entry

        return get_entry(self.settings.model)

    @property
    def pretrains(self) -> bool:
        """Whether the command pre-trains."""
        return isinstance(self.settings, PretrainConfig)

    @property
    def has_scales(self) -> bool:
        """Whether that has several scales."""
        return has_scales(self.settings.model)

    def setting(self, ours: str, published: str, default: object) -> Any:
        """What a setting of the encoder or of pre-training will be once all is translated."""
        part, _, name = ours.partition(".")
        stated = getattr(self.settings, part, {}).get(name, default)
        return self.beside.get(ours, self.beside.get(published, stated))

    def refused(self, why: str) -> ConfigError:
        """The error that says why the value cannot be had."""
        return ConfigError(f"{self.override}: {why}")


ONLY: Mapping[str, str] = {
    "optimizer.type": "AdamW",
    "scheduler.type": "CosLR",
    "scheduler.kwargs.warming_up_init_lr": "0.00005",  # published code does not read it
    "step_per_update": "1",
    "consider_metric": "CDL1",
    "temp.start": "1",
    "temp.target": "0.0625",
    "temp.ntime": "100000",
    "kldweight.start": "0",
    "kldweight.target": "0.1",
    "kldweight.ntime": "100000",
    "dataset.val.others.subset": "test",
    "dataset.test.others.subset": "test",
    "dataset.extra_train.others.subset": "train",
    "dataset.val.others.whole": "false",
    "dataset.test.others.whole": "false",
    **{
        f"dataset.{prefix}{part}.others.partition": split
        for prefix in ("", "svm.")
        for part, split in (("train", "train"), ("val", "test"), ("test", "test"))
    },
    "model.cls_token": "false",
    "model.aug": "None",
    "model.ablation": "None",
    "model.adapter_config.adapter_drop_path_rate": "0.1",
    "model.prompt.NUM_TOKENS": "100",  # published code does not read it, nor the next
    "model.hd_s1": "true",
}
"""Published keys for which there is one value."""

_BASES = {
    "ShapeNet-55": "shapenet55",
    "ModelNet40": "modelnet40",
    "ModelNet40_SVM": "modelnet40_h5",
    "ModelNet40FewShot": None,
    "ScanObjectNN_hardest": "scanobjectnn_pb_t50_rs",
    "ScanObjectNN_objectbg": "scanobjectnn_obj_bg",
    "ScanObjectNN_objectonly": "scanobjectnn_obj_only",
    "Scan_PB": "scanobjectnn_pb_t50_rs",
    "Scan_OBJ-BG": "scanobjectnn_obj_bg",
    "Scan_OBJ": "scanobjectnn_obj_only",
}
"""Published files of data sets, and our names of these; few-shot episodes have none."""
_OBJECTS = ("scanobjectnn_obj_bg", "scanobjectnn_obj_only")
_SCANS = (*_OBJECTS, "scanobjectnn_pb_t50_rs")
_FACTS: Mapping[str, Mapping[Any, tuple[str | None, ...]]] = {
    "NAME": {
        "ShapeNet": ("shapenet55",), "ModelNet": ("modelnet40",), "ModelNetFewShot": (None,),
        "ModelNet40_SVM": ("modelnet40_h5",), "ScanObjectNN": _SCANS,
        "ScanObjectNN_hardest": _SCANS[-1:],
    },
    "SPLIT": {"PB": _SCANS[-1:], "OBJ-BG": _OBJECTS[:1], "OBJ": _OBJECTS[1:]},
    "N_POINTS": {
        2048: _SCANS, 8192: ("shapenet55", "modelnet40", "modelnet40_h5", None),
    },
    "NUM_CATEGORY": {40: ("modelnet40", "modelnet40_h5", None)},
    "USE_NORMALS": {False: ("modelnet40", "modelnet40_h5", None)},
}  # fmt: skip
"""What published files of data sets state, and our names of the data sets that it is true of."""
_NAMES: Mapping[str, tuple[str, ...]] = {
    "point_mae": ("Point_MAE", "PointTransformer", "PointTransformer_best",
                  "PointTransformer_modelnet"),
    "pcp_mae": ("PCP_MAE", "PointTransformer"),
    "point_bert": ("Point_BERT", "PointTransformer"),
    "point_bert_dvae": ("DiscreteVAE",),
    "point_m2ae": ("Point_M2AE", "Point_M2AE_ModelNet40", "Point_M2AE_ScanObjectNN",
                   "PointTransformer_best"),
    "i2p_mae": ("I2P_MAE", "I2P_MAE_ModelNet40", "I2P_MAE_ScanObjectNN"),
}  # fmt: skip
"""Published classes of each model."""
_CHANNELS = {"ViT-B/16": 512, "ViT-B/32": 512, "ViT-L/14": 768}
"""Of the feature maps of image teachers."""
_HALF = 8  # width of the last bottleneck with if_half


def parsed(text: str) -> Any:
    """A value as YAML means it, or as a number that YAML takes for text, such as 5e-05."""
    try:
        value = yaml.safe_load(text)
        return float(value) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError):
        return text


def _only(given: Given) -> tuple[str, ...]:
    only = ONLY[given.name]
    if given.value != parsed(only):
        raise given.refused(f"there is only {given.name}={only}")
    return ()


def _class_name(given: Given) -> tuple[str, ...]:
    known = _NAMES.get(given.settings.model.removesuffix("_small"), ())
    if given.value not in known:
        raise given.refused(
            f"the config is for {given.settings.model}, published as {' or '.join(known)}"
        )
    return ()


_TYPES = {
    "full": (),
    "mlp3": ("method=linear", "peft.class_token=true"),
    "linear": ("method=linear", "peft.class_token=true", "peft.head=linear"),
}
"""Of PCP-MAE, what is trained."""


def _type(given: Given) -> tuple[str, ...]:
    own = given.settings.model.startswith("pcp_mae")
    if given.value not in _TYPES or (given.value != "full" and not own):
        raise given.refused(f"it must be {' or '.join(_TYPES) if own else 'full'}")
    return _TYPES[given.value]


def _classes(given: Given) -> tuple[str, ...]:
    """Of Point-BERT's pre-training, features; else the head has the classes of the data."""
    if given.pretrains:
        return (f"pretraining.feature_dim={given.value}",)
    from pointpeft.data.benchmarks.stored import choose_dataset

    data = given.settings.data
    source = Path(data.source).expanduser()
    dataset = choose_dataset(source, data.variant) if source.is_dir() else None
    if dataset is not None and given.value != len(dataset.class_names):
        raise given.refused(f"{dataset.title} has {len(dataset.class_names)} classes")
    return ()


def _heads(given: Given) -> tuple[str, ...]:
    """Published hierarchical decoders have the heads of their encoder."""
    ours = (f"backbone.num_heads={given.value}",)
    named = {"model.decoder_num_heads", "pretraining.decoder_num_heads"} & given.beside.keys()
    if not given.has_scales or not given.pretrains or named:
        return ours
    return (*ours, f"pretraining.decoder_num_heads={given.value}")


def _decoder_dims(given: Given) -> tuple[str, ...]:
    """Channels of decoded scales are those of the encoder, the coarsest first."""
    dims = given.setting("backbone.dims", "model.encoder_dims", given.entry.config.dims)[::-1]
    steps = len(given.value) if isinstance(given.value, list) else 0
    if not steps or given.value != list(dims[:steps]):
        raise given.refused(f"scales are decoded in the channels of the encoder, {list(dims)}")
    return ()


def _up_blocks(given: Given) -> tuple[str, ...] | None:
    """The published list has an entry too many, the last, which is not read."""
    if not given.pretrains:
        return None
    depths = given.entry.pretraining_config.decoder_depths
    depths = given.setting("pretraining.decoder_depths", "model.decoder_depths", depths)
    if not isinstance(given.value, list):
        raise given.refused("expected a list, one number for each step of the decoder")
    return (f"pretraining.decoder_residuals={given.value[: len(depths) - 1]}",)


def _half(given: Given) -> tuple[str, ...] | None:
    if not isinstance(given.value, bool):
        raise given.refused("expected true or false")
    if not given.value:
        return ()
    return (f"peft.output_adapter_dim={_HALF}",) if given.has_scales else None


def _teacher_channels(given: Given) -> tuple[str, ...] | None:
    if not given.pretrains:
        return None
    teacher = given.setting("pretraining.teacher", "model.clip_config.visual_encoder", "ViT-B/16")
    if teacher == "random":
        return (f"pretraining.teacher_channels={given.value}",)
    if given.value != _CHANNELS.get(str(teacher)):
        raise given.refused(f"the teacher {teacher} brings its own channels; leave the key out")
    return ()


def _subset(given: Given) -> tuple[str, ...]:
    # This reads more, and so does what PCP-MAE is pre-trained on, whatever is stated.
    whole = given.beside.get("dataset.train.others.whole") is True
    whole |= given.pretrains and given.settings.model.startswith("pcp_mae")
    return () if whole else (f"data.train_split={given.value}",)


def _base(given: Given) -> tuple[str, ...]:
    """The published file of a data set."""
    stem = PurePosixPath(str(given.value)).stem
    if stem not in _BASES:
        raise given.refused(f"expected a published file of a data set: {', '.join(_BASES)}")
    variant, settings = _BASES[stem], given.settings
    checked = getattr(settings, "svm", None)
    used = {settings.data.variant, checked.variant if checked else None}
    episodes = isinstance(settings, FinetuneConfig) and settings.few_shot.way is not None
    if variant in used or (episodes and variant in (None, "modelnet40")):
        return ()
    if given.name == "dataset.train._base_" and variant is not None and not episodes:
        return (f"data.variant={variant}",)
    raise given.refused(f"the config is for {settings.data.variant or 'few-shot episodes'}")


def _fact(given: Given) -> tuple[str, ...]:
    """A statement of a published file of a data set."""
    known, variant = _FACTS[given.name], given.settings.data.variant
    if isinstance(given.value, str | int | float) and variant in known.get(given.value, ()):
        return ()
    right = " or ".join(str(value) for value, names in known.items() if variant in names)
    raise given.refused(f"of {variant or 'few-shot episodes'} it is {right or 'not stated'}")


def _encoder_dims(given: Given) -> tuple[str, ...]:
    """Channels of tokens, or of patches where a projection follows."""
    if given.has_scales:
        return (f"backbone.dims={given.value}",)
    if given.entry.config.embed_dim is not None:
        return (f"backbone.embed_dim={given.value}",)
    if given.beside.get("model.trans_dim", given.value) != given.value:
        raise given.refused("it must be trans_dim: no projection follows the patch embedding")
    return (f"backbone.dim={given.value}",)


def _points(given: Given) -> tuple[str, ...] | None:
    """Published linear SVMs take as many points as their data set says, not as this key does."""
    if isinstance(given.settings, SvmConfig) and given.value == 2048:
        return None
    return (f"data.num_points={given.value}",)


def _tokenizer(given: Given) -> tuple[str, ...]:
    unset = given.value == "Need to be set"  # the published config says so in place of a file
    return () if unset else (f"pretraining.tokenizer={given.value}",)


def _place(given: Given) -> None:
    """Published files of data sets hold paths of their authors' machines."""
    if not str(given.value).rstrip("/").endswith(_ENDS):
        raise given.refused("this is what the settings data.source and data.variant name instead")


_ENDS = ("data", "ShapeNet-55", "shapenet_pc", "modelnet40_normal_resampled", "ModelNetFewshot",
         "main_split", "main_split_nobg")  # fmt: skip

MEANINGS: Mapping[str, Callable[[Given], tuple[str, ...] | None]] = {
    **dict.fromkeys(ONLY, _only),
    "model.NAME": _class_name,
    "model.cls_dim": _classes,
    "model.type": _type,
    "model.num_heads": _heads,
    "model.decoder_up_blocks": _up_blocks,
    "model.if_half": _half,
    "model.clip_config.feat_dim": _teacher_channels,
    "model.dvae_config.ckpt": _tokenizer,
    "model.encoder_dims": _encoder_dims,
    "npoints": _points,
    "dataset.train.others.subset": _subset,
    **{
        f"dataset.{part}._base_": _base
        for part in ("train", "val", "test", "extra_train", "svm.train", "svm.val", "svm.test")
    },
    **dict.fromkeys(_FACTS, _fact),
    **dict.fromkeys(("DATA_PATH", "PC_PATH", "ROOT", "DATA_DIR"), _place),
}
"""What keys mean, by their names: overrides in our words; None: the command does not heed them."""

SCALES = {"model.decoder_dims": _decoder_dims, "model.trans_dim": _decoder_dims}
"""What further keys mean for a model of several scales."""
