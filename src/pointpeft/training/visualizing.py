"""Pre-training made visible: a shape as a network sees it, and the curves of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from pointpeft.compat.protocol import find_protocol
from pointpeft.data import InputTransform, read_shape
from pointpeft.data.embedded import is_embedded
from pointpeft.data.mesh_files import posed_mesh
from pointpeft.data.prepare import default_num_stored
from pointpeft.data.shapes import choose_num_stored, list_shapes
from pointpeft.data.shards import ShardIndex, is_sharded
from pointpeft.errors import ConfigError, DataError
from pointpeft.locations import RUN_CONFIG, names_embedded, resolve_checkpoint
from pointpeft.measure.pretraining_view import PretrainingView, see
from pointpeft.measure.report.curves_page import write_curves_page
from pointpeft.measure.report.page import REPORT
from pointpeft.measure.report.view_page import write_view_page
from pointpeft.models.checkpoint import Checkpoint, fill
from pointpeft.models.objective import Pretraining
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.process_state import undisturbed
from pointpeft.training.config import PretrainConfig
from pointpeft.training.config_files import load_config, read_settings
from pointpeft.training.pretraining import make_model
from pointpeft.training.run_folder import AtomicCheckpointIO, RunFolder
from pointpeft.training.teacher_features import MOST_POINTS
from pointpeft.vision import Mesh

__all__ = ["load_pretrained", "view_config", "visualize_run", "visualize_shape"]

_TOKENIZER = "dvae."
"""Where Point-BERT has its tokenizer."""


def view_config(checkpoint: str | None, overrides: Sequence[str], **values: Any) -> PretrainConfig:
    """The settings of the run that ``checkpoint`` is the folder of, or the defaults.

    Args:
        checkpoint: such a folder, a weights file, "embedded", or None.
        overrides: ``key=value``, as for pre-training.
        **values: further settings; None leaves them as they are.

    Raises:
        ConfigError: unknown settings, or the folder is of another kind of run.
    """
    own = Path(checkpoint or "") / RUN_CONFIG
    begun = [own] if checkpoint and own.is_file() else []
    if begun:
        _check_kind(own.parent)
    given = {key: value for key, value in values.items() if value is not None}
    config = load_config(PretrainConfig, begun, overrides, given | {"checkpoint": checkpoint})
    return find_protocol(config.protocol).resolve(config)


@undisturbed()
def visualize_shape(file: str | Path, config: PretrainConfig, output: str | Path) -> Path:
    """Write a page about how a pre-training network sees a shape.

    Args:
        file: a mesh or a scan.
        config: from :func:`view_config`; ``seed`` is that of the mask.
        output: the page, ``.html``.

    Raises:
        ConfigError: unfit settings, or a teacher that is not there.
        CheckpointError: weights that are missing or do not fit.
        DataError: the file cannot be used.
    """
    output = _page(output)
    shape = read_shape(file)
    torch.manual_seed(config.seed)
    model, trained, origin = load_pretrained(config)
    data, core = config.data, model.core
    transform = InputTransform(
        data.num_points or core.spec.num_points,
        data.normalize,  # type: ignore[arg-type]
        data.up_axis,  # type: ignore[arg-type]
    )
    (prepared,) = transform.prepare_batch([shape], _stored_points(config, transform))
    if isinstance(prepared, DataError):
        raise DataError(f"{shape.source}: {prepared}")
    mesh = None
    if prepared.raw_count == 0 and _reads_faces(config):
        posed = posed_mesh(shape, transform, prepared.raw_center, prepared.raw_radius)
        mesh = Mesh(*map(torch.from_numpy, posed))
    stored = torch.from_numpy(prepared.points)
    points = stored[: transform.num_points]
    view = see(model, points, trained, config.seed, mesh, stored[:MOST_POINTS])
    notes = [*view.notes, *prepared.notes]
    return write_view_page(
        output,
        f"What pre-training sees of {Path(file).name}",
        f"{config.model}, {origin}; the mask is drawn with seed {config.seed}.",
        PretrainingView(view.views, view.panels, notes),
        str(model.pretraining_config.teacher) if isinstance(model, Pretraining) else "",
    )


def _stored_points(config: PretrainConfig, transform: InputTransform) -> int:
    """Points of a shape that the data of a run holds."""
    if config.procedural:  # beside new shapes a teacher looks at what the network sees
        return transform.num_points
    if is_sharded(config.data.source):
        return max(ShardIndex.read(config.data.source).transform.num_points, transform.num_points)
    if _of_run(config) and _points_alone(config.data.source):
        return choose_num_stored(list_shapes(config.data.source), transform)
    return default_num_stored(transform, None)


def _reads_faces(config: PretrainConfig) -> bool:
    """Whether a teacher sees the faces of meshes: of files, without new shapes beside them.

    Without a run it is asked for the shape as it is.
    """
    return not config.procedural and not (_of_run(config) and _points_alone(config.data.source))


def _of_run(config: PretrainConfig) -> bool:
    return config.checkpoint is not None and (Path(config.checkpoint) / RUN_CONFIG).is_file()


def _points_alone(source: str) -> bool:
    """Whether a source has no faces: an embedded set, shards or an ``.npz``."""
    return is_embedded(source) or is_sharded(source) or Path(source).suffix == ".npz"


def visualize_run(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write a page with the curves of a pre-training run, which may still be going on.

    Args:
        folder: of the run.
        output: the page; None: ``report.html`` in the folder.

    Raises:
        ConfigError: it holds no pre-training run.
        DataError: no epoch has ended.
    """
    _check_kind(Path(folder))
    return write_curves_page(_page(output or Path(folder) / REPORT), folder)


def load_pretrained(config: PretrainConfig) -> tuple[Pretrainable, frozenset[str], str]:
    """The whole network as far as its weights are there.

    Of a run it is what ``checkpoints/last.ckpt`` holds, and without that its encoder.

    Returns:
        The network, names of the entries that come from weights, and where they come from in words.

    Raises:
        ConfigError: unfit settings.
        CheckpointError: weights that are missing or do not fit.
    """
    if config.checkpoint is None:
        return make_model(config), frozenset(), "with random weights"
    if names_embedded(config.checkpoint, config.model):
        model = make_model(config)
        own = {name for name in model.state_dict() if name.startswith("backbone.")}
        return model, frozenset(own), "with the encoder that comes with the package"
    last = RunFolder(config.checkpoint).last
    if last.is_file():
        model = make_model(replace(config, checkpoint=None))
        content = AtomicCheckpointIO().load_checkpoint(last)
        state = {name.removeprefix("model."): t for name, t in content["state_dict"].items()}
        read = Checkpoint(last, "a pre-training run", state, {"task": model.task})
        used = set(fill(model, read).used)
        if not config.pretraining.get("tokenizer"):
            used = {name for name in used if not name.startswith(_TOKENIZER)}  # was at random
        return model, frozenset(used), f"weights of {last} after step {content['global_step']:,}"
    file = resolve_checkpoint(config.checkpoint)
    model = make_model(replace(config, checkpoint=str(file)))
    held = set(read_checkpoint(file).state)
    if config.pretraining.get("tokenizer"):
        held |= {name for name in model.state_dict() if name.startswith(_TOKENIZER)}
    return model, frozenset(held), f"weights of {file}"


def _page(path: str | Path) -> Path:
    """A path that may become a page.

    Raises:
        ConfigError: it is named otherwise.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ConfigError(f"`output` {path} must end in .html: a page for a browser is written")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _check_kind(folder: Path) -> None:
    """Refuse a folder that is not of a pre-training run.

    Raises:
        ConfigError: it is not.
    """
    file = folder / RUN_CONFIG
    if not file.is_file() or "pretraining" not in read_settings(file):
        raise ConfigError(
            f"{folder} holds no pre-training run: there is no {file.name} with settings of "
            "pre-training. Pass the folder that `pointpeft pretrain` filled; fine-tuning writes a "
            f"{REPORT} itself"
        )
