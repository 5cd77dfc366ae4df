"""Verbs around a backbone: models, pretrain, svm, and the demonstration of the whole."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pointpeft.cli import options
from pointpeft.cli.console import headline, out, reading, resumable, show_table, speak, tell
from pointpeft.cli.corpora import make_shards
from pointpeft.errors import ConfigError
from pointpeft.formats import counted, human_bytes, percent
from pointpeft.memory import keep_freed_memory
from pointpeft.tasks.shown import basis

if TYPE_CHECKING:
    from pointpeft.measure.svm import SvmResult
    from pointpeft.training.config import SvmConfig

__all__ = ["demo", "models", "pretrain", "svm"]


def models(
    name: Annotated[str | None, typer.Argument(help="Show one model in full.")] = None,
) -> None:
    """List the backbones, or show one with its paper, settings and published results."""
    from dataclasses import asdict

    from pointpeft.create import has_embedded_weights, model_card
    from pointpeft.models import get_entry, list_models

    if name is None:
        table = Table("model", "what it is", "presets", "weights shipped")
        for each in list_models():
            entry = get_entry(each)
            shipped = "yes" if has_embedded_weights(each) else "no"
            table.add_row(each, entry.summary, ", ".join(entry.presets) or "-", shipped)
        show_table(table)
        return
    entry = get_entry(name)
    table = Table(name, "", show_header=True)
    table.add_row("summary", entry.summary)
    table.add_row("paper", entry.paper)
    table.add_row("licence", entry.licence)
    up = f"{entry.up_axis} up"
    table.add_row("input", f"{entry.num_points} points, normalize={entry.normalize}, {up}")
    if has_embedded_weights(name):
        table.add_row("weights", escape(f"in the package; their card: {model_card(name)}"))
    table.add_row("settings", "defaults, which a run may change:")
    settings = {"backbone": entry.config, "pretraining": entry.pretraining_config}
    for group, config in settings.items():
        for key, value in asdict(config).items() if config else ():
            table.add_row(f"{group}.{key}", str(value))
    for preset, sizes in entry.presets.items():
        changes = ", ".join(f"{k}={v}" for k, v in sizes.overrides.items())
        given = f"{sizes.num_points} points, normalize={sizes.normalize}, {up}; {changes}"
        table.add_row(f"preset {preset}", given)
    for dataset, accuracy in entry.reported.items():
        table.add_row(f"reported, {dataset}", f"{accuracy:.2f} %")
    if entry.configs:
        table.add_row("configs", escape(", ".join(f"cfgs/{each}" for each in entry.configs)))
    show_table(table)


def pretrain(
    overrides: options.Overrides = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder of shapes or of shards, an .npz file, 'mechparts', or 'procedural' for "
            "shapes made by programs."
        ),
    ] = None,
    model: options.Model = None,
    checkpoint: options.Checkpoint = None,
    output: options.Output = Path("runs/pretrain"),
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    variant: options.Variant = None,
    up_axis: options.UpAxis = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    resume: options.Resume = False,
    save_published: options.SavePublished = False,
) -> None:
    """Pre-train a backbone on shapes without labels, by masked autoencoding."""
    from pointpeft import training

    settings = options.read_settings(
        training.PretrainConfig, overrides, output, config, resume, device, data=data, model=model,
        checkpoint=checkpoint, seed=seed, epochs=epochs, up_axis=up_axis, variant=variant,
        save_published=save_published,
    )  # fmt: skip
    speak()
    keep_freed_memory()
    with resumable(output), reading() as progress:
        metrics = training.pretrain(settings, output, resume, progress)
    tell(
        f"pre-trained {metrics['model']} on {counted(metrics['items'], 'shape')} for "
        f"{counted(metrics['epochs'], 'epoch')}, loss {metrics['loss']:.5f}\n"
        f"weights: {output / metrics['weights']}"
    )
    if "best_weights" in metrics:
        tell(
            f"best epoch by the {metrics['selection']}: {metrics['best_epoch']} of "
            f"{metrics['epochs']}, {output / metrics['best_weights']}"
        )


def svm(
    overrides: options.Overrides = None,
    data: options.Data = None,
    model: options.Model = None,
    checkpoint: options.Checkpoint = None,
    output: options.Output = Path("runs/svm"),
    preset: Annotated[str | None, typer.Option(help="Sizes of the papers.")] = None,
    C: Annotated[
        float | None,
        typer.Option("--C", help="Inverse regularisation strength."),
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Cross-validate C although --config states one.")
    ] = False,
    seed: options.Seed = None,
    variant: options.Variant = None,
    up_axis: options.UpAxis = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Folder of features: of `embed`, or made of --data first, and kept there."
        ),
    ] = None,
    engine: options.Engine = "processes",
    device: options.Device = None,
    config: options.ConfigFile = None,
) -> None:
    """Measure a frozen backbone with a linear SVM on its retrieval features."""
    from pointpeft import training

    if features is None and engine != "processes":
        raise ConfigError("`engine` makes `features`: name a folder for them")
    settings = options.read_settings(
        training.SvmConfig, overrides, output, config, to_be_read=features is not None, data=data,
        model=model, checkpoint=checkpoint, preset=preset, seed=seed, up_axis=up_axis,
        variant=variant, C=C,
    )  # fmt: skip
    if tune:
        settings.C = None
    speak()
    if features is not None:
        named = data is not None or settings.data.source != training.SvmConfig().data.source
        result, weights = _svm_of_features(settings, named, features, engine, device, output)
    else:
        with reading() as progress:
            device = device or "auto"
            result, weights = training.evaluate_backbone(settings, device, progress, output)
        weights = f"{settings.model}, {weights}"
    tell(f"backbone: {weights}")
    tell(f"C: {result.C:g} ({result.C_from})")
    tell(f"metrics: {output / 'metrics.json'}")
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    headline(f"[bold]linear SVM test accuracy: {percent(result.accuracy)}[/] ({basis(metrics)})")


def _svm_of_features(
    settings: "SvmConfig",
    named: bool,
    features: Path,
    engine: str,
    device: str | None,
    output: Path,
) -> "tuple[SvmResult, str]":
    """Make the features, if there is data to make them of, and measure them."""
    from pointpeft.measure.feature_svm import evaluate_features, features_of  # slow
    from pointpeft.measure.records import check_output

    check_output(output)
    source = settings.data.source
    work = features_of(settings, named)
    if work is not None:
        try:
            make_shards(
                "embedding", work, [source], features, engine=engine, device=device, resume=True,
                refuse=False,
            )  # fmt: skip
        except ConfigError as error:  # the folder has another name here
            raise ConfigError(str(error).replace("`output`", "`features`")) from error
    elif engine != "processes":
        raise ConfigError("`engine` makes features: name `data` to make them of")
    return evaluate_features(features, settings, output)


def demo(
    output: options.Output = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A smaller run, for checks.")] = False,
    data: Annotated[str, typer.Option(help="homeobjects, or mechparts, three times as long.")] = (
        "homeobjects"
    ),
    seed: options.Seed = 0,
) -> None:
    """Adapt the embedded backbone to embedded shapes by each method, and compare the methods."""
    from pointpeft.training.demo import REPORT, run_demo

    rows = run_demo(output, quick, seed or 0, lambda text: out.print(text, style="bold"), data)
    table = Table(
        "method", "trainable", "stored", "test accuracy", "seconds per epoch", "peak memory"
    )
    for row in rows:
        spread = f" +- {percent(row['test_accuracy_std'])}" if row.get("test_accuracy_std") else ""
        seconds = row["seconds_per_epoch"]
        table.add_row(
            row["method"],
            f"{row['trainable_parameters']:,}",
            human_bytes(row["stored_bytes"]),
            percent(row["test_accuracy"]) + spread,
            "-" if seconds is None else f"{seconds:.2f}",
            human_bytes(row["peak_memory_bytes"]),
        )
    show_table(table)
    if quick:
        tell("a check that everything works: these accuracies need the whole demonstration")
    tell(f"runs and adapters: {output}\nreport: {output / REPORT}")
