"""What the documentation takes for granted, made small, and commands that are only parsed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

import pointpeft as pp
from pointpeft.cli import app, options
from pointpeft.compat.checkpoints.checkpoint_writer import save_pth
from pointpeft.compat.command import flags as published_flags
from pointpeft.compat.command import program as published
from pointpeft.data import embedded, export, read_shape
from pointpeft.models import get_entry
from pointpeft.peft import config_class, registry
from pointpeft.training import SvmConfig, load_config, parallel
from pointpeft.training.config import SvmCheckConfig, TrainerConfig
from pointpeft.training.config_files import setting_names
from tests.data.benchmarks import layouts
from tests.training import support
from tests.training.comparing import run_here

CLASSES = ("chair", "sofa", "table")
"""Classes of homeobjects that are left."""
FEW = {"train": 4, "val": 1, "test": 2}
"""Shapes of each that are left."""
EPOCHS, PROCEDURAL = 1, 4
KINDS = {
    "finetune": pp.FinetuneConfig,
    "pretrain": pp.PretrainConfig,
    "svm": SvmConfig,
    "reproduce": pp.FinetuneConfig,
}
"""Verbs that take settings."""


# Small ------------------------------------------------------------------------------------------


def shorten(patch: pytest.MonkeyPatch) -> None:
    """One epoch, few procedural shapes, few shapes of the data set that comes with the package.

    Methods that are registered are forgotten again. Runs of a comparison stay in this process.
    """

    def limit(kind: type, part: str, most: int) -> None:
        check = kind.__post_init__

        def limited(config: Any) -> None:
            check(config)
            setattr(config, part, min(getattr(config, part), most))

        patch.setattr(kind, "__post_init__", limited)

    limit(TrainerConfig, "epochs", EPOCHS)
    limit(pp.PretrainConfig, "procedural", PROCEDURAL)
    limit(SvmCheckConfig, "every", EPOCHS)
    few, parts = few_homeobjects(), few_mechparts()
    patch.setattr(embedded, "load_homeobjects", lambda: few)
    patch.setattr(embedded, "load_mechparts", lambda: parts)
    patch.setattr(registry, "_METHODS", dict(registry._METHODS))
    patch.setattr(parallel, "run_in_processes", run_here)
    made = export.export_procedural.__defaults__
    patch.setattr(export.export_procedural, "__defaults__", (made[0], 6, 512, made[3]))


def few_homeobjects() -> embedded.HomeObjects:
    """A few labelled shapes and a few without a label."""
    whole = embedded.load_homeobjects()
    kept = list(np.flatnonzero(whole.labels < 0)[:4])
    for name in CLASSES:
        of_class = whole.labels == whole.class_names.index(name)
        for split, count in FEW.items():
            kept += list(np.flatnonzero(of_class & (whole.split == split))[:count])
    labels = np.array(
        [CLASSES.index(whole.class_names[n]) if n >= 0 else -1 for n in whole.labels[kept]]
    )
    ids, titles = (tuple(names[i] for i in kept) for names in (whole.ids, whole.titles))
    return embedded.HomeObjects(
        whole.points[kept], labels, CLASSES, whole.split[kept], ids, titles, whole.groups[kept]
    )


def few_mechparts() -> embedded.MechParts:
    """A few parts of the first classes."""
    whole = embedded.load_mechparts()
    kept: list[int] = []
    for label in range(len(CLASSES)):
        for split, count in FEW.items():
            found = np.flatnonzero((whole.labels == label) & (whole.split == split))
            kept += list(found[:count])
    series, sizes = (tuple(names[i] for i in kept) for names in (whole.series, whole.sizes))
    names = whole.class_names[: len(CLASSES)]
    return embedded.MechParts(
        whole.points[kept], whole.labels[kept], names, whole.split[kept], series, sizes
    )


def write_shapes(folder: Path) -> None:
    """A folder of real shapes in classes, as ``pointpeft data homeobjects --export`` writes it."""
    export.export_folder(pp.load_shapes("homeobjects"), folder)


def write_archive(path: Path) -> None:
    """Labelled shapes as one ``.npz``."""
    support.write_archive(path)


def write_published_data(folder: Path) -> None:
    """Tiny data sets in the published layouts."""
    scans = layouts.write_scanobjectnn(folder)
    for part, count in (("training", 2), ("test", 1)):  # enough for a memory bank
        file = scans / f"main_split/{part}_objectdataset_augmentedrot_scale75.h5"
        layouts.write_h5(file, np.arange(15).repeat(count))
    layouts.write_shapenet(folder)
    layouts.write_episode(folder, way=5, shot=10)


def write_published_model(folder: Path) -> None:
    """Point-PEFT on Point-MAE as its repository keeps it: weights, memory bank and encoder."""
    torch.manual_seed(0)
    encoder = pp.create_model("point_mae", preset="scanobjectnn")
    bank = pp.MemoryBank(
        torch.nn.functional.normalize(torch.randn(encoder.num_features, 20), dim=0)
    )
    tuned = pp.get_peft_model(
        pp.build_classifier(encoder, 15), pp.PointPeftConfig(reference_compat=True), bank
    )
    save_pth(tuned, folder / "ckpt-best.pth")


def read_points(path: Path) -> np.ndarray:
    return read_shape(path).points


# Names ------------------------------------------------------------------------------------------


def verbs() -> dict[str, Any]:
    """Every verb of ``pointpeft`` by its words, such as "data show"."""
    commands = typer.main.get_command(app.app).commands
    inner = {
        f"{name} {word}": verb
        for name, group in commands.items()
        for word, verb in getattr(group, "commands", {}).items()
    }
    return {**commands, **inner}


def flags() -> set[str]:
    """Every flag of any program of ours."""
    ours = {flag for verb in verbs().values() for part in verb.params for flag in part.opts}
    published = published_flags.make_parser()._option_string_actions
    return {*ours, *published, "--debug", "--version", "--help"}


def settings() -> set[str]:
    """Every setting that does not depend on the model or the method, and their parents."""
    names = {name for kind in set(KINDS.values()) for name in setting_names(kind)}
    return names | {name.partition(".")[0] for name in names}


# Parsing ----------------------------------------------------------------------------------------


def check(argv: list[str], root: Path) -> None:
    """Refuse a command whose program, flags, files or settings there are not; run nothing."""
    match argv:
        case ["make", target, *_]:
            assert f"\n{target}:" in (root / "Makefile").read_text(), target
        case ["pip", "install", target]:
            path, _, extra = target.partition("[")
            assert path == ".", target
            assert (
                not extra or f"\n{extra.rstrip(']')} = [" in (root / "pyproject.toml").read_text()
            )
        case ["torchrun" | "srun", *rest]:
            start = next(i for i, word in enumerate(rest) if word in ("pointpeft", "main.py"))
            program = ["python"] if rest[start] == "main.py" else []
            check([*program, *rest[start:]], root)
        case ["python", "main.py", *arguments]:
            _check_published(arguments)
        case ["pointpeft", *arguments]:
            _check_verb(arguments)
        case _:
            raise AssertionError(f"no way to check {argv}")


def _check_verb(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app.app)
    names = []
    while hasattr(command, "commands"):
        name, *arguments = arguments
        names.append(name)
        command = command.commands[name]
    given = command.make_context(names[-1], list(arguments)).params  # refuses unknown flags
    for setting in given.get("settings") or []:  # of a published file
        assert setting.partition("=")[0] in _sizes(), setting
    if kind := KINDS.get(names[-1]):
        files = options.config_files(given["output"], given.get("config"))
        stated = {k: given[k] for k in ("model", "method", "preset") if given.get(k)}
        settings = load_config(kind, files, given["overrides"] or [], stated)
        _check_free(settings)


def _sizes() -> set[str]:
    """Settings of any backbone and of Point-PEFT."""
    configs = {"backbone": [get_entry(name).config for name in pp.list_models()]}
    configs["peft"] = [pp.PointPeftConfig()]
    return {
        f"{part}.{field.name}"
        for part, of_part in configs.items()
        for config in of_part
        for field in dataclasses.fields(config)
    }


def _check_published(arguments: list[str]) -> None:
    """Translate a published command as far as to where data and weights are looked for."""
    calls: list[published.Call] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):  # as torchrun sets them
            patch.setenv(name, "2")
        patch.setattr(published, "_check_sources", lambda call: None)
        patch.setattr(published, "_carry_out", lambda call, notes: calls.append(call))
        published._run(list(arguments))
    _check_free(calls[0].settings)


def _check_free(settings: Any) -> None:
    """The settings of the model and the method, which are not fields of the config itself."""
    entry = get_entry(settings.model)
    sizes = entry.presets[settings.preset].overrides if settings.preset else {}
    dataclasses.replace(entry.config, **{**sizes, **_plain(settings.backbone)})
    if getattr(settings, "pretraining", None):
        dataclasses.replace(entry.pretraining_config, **_plain(settings.pretraining))
    if getattr(settings, "peft", None):
        config_class(settings.method or "point-peft").from_dict(settings.peft)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
