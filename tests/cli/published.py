"""The published command line in this process, and networks small enough for it."""

import contextlib
import io
from pathlib import Path

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import (
    I2P_MAE_PRETRAINED,
    POINT_MAE_CLASSIFICATION,
)
from pointpeft.compat.command.program import main
from tests.cli.conftest import Result
from tests.models.test_published import publish
from tests.models.tiny import settle

CONFIGS = Path(__file__).parents[2] / "cfgs"
SHORT = ("max_epoch=1", "total_bs=32", "npoints=64", "backbone.patch_widths=[8,12,16]")
ONE_SCALE = (
    *SHORT, "model.num_group=8", "model.group_size=8", "model.trans_dim=24", "model.depth=2",
)  # fmt: skip
SCALES = (
    *SHORT, "model.num_groups=[24,16,8]", "model.group_sizes=[8,4,4]",
    "model.encoder_dims=[12,18,24]", "model.encoder_depths=[1,1,2]",
)  # fmt: skip
TINY = {
    "point-bert": (*ONE_SCALE, "model.encoder_dims=16"),
    "point-mae": ONE_SCALE,
    "point-m2ae": SCALES,
}
IMAGES = (
    "model.clip_config.visual_encoder=random", "pretraining.teacher_image_size=32",
    "pretraining.teacher_patch_size=8", "pretraining.teacher_channels=5",
)  # fmt: skip

_SCALE_SIZES = {
    "num_groups": (24, 16, 8), "group_sizes": (8, 4, 4), "dims": (12, 18, 24),
    "depths": (1, 1, 2), "patch_widths": (8, 12, 16),
}  # fmt: skip
_SIZES = {
    "num_groups": 8, "group_size": 8, "dim": 24, "depth": 2, "patch_widths": (8, 12, 16),
}  # fmt: skip


def run(config: str, *arguments: object) -> Result:
    """Run ``main.py --config cfgs/<config>`` with further arguments."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["--config", str(CONFIGS / config), *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
    return Result(int(code or 0), out.getvalue(), err.getvalue())


def write_pretrained(path: Path) -> Path:
    """A pre-trained I2P-MAE as its authors' code would save it."""
    model = pp.create_model("i2p_mae", task="pretraining", teacher="random", **_SCALE_SIZES)
    path.parent.mkdir(exist_ok=True)
    return publish(path, I2P_MAE_PRETRAINED.theirs(settle(model).state_dict()))


def write_tuned(path: Path) -> Path:
    """A Point-MAE that published code has fine-tuned on ScanObjectNN."""
    model = settle(pp.create_model("point_mae", num_classes=15, **_SIZES))
    return publish(path, POINT_MAE_CLASSIFICATION.theirs(model.state_dict()))
