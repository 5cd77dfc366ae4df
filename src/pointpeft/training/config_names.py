"""Configs by name: files, those that come with the package, and what their authors call them."""

import logging
from pathlib import Path, PurePosixPath

from pointpeft.errors import ConfigError, nearest_hint

__all__ = ["ALIASES", "CONFIGS", "find_config"]

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
