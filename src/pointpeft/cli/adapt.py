"""Verbs that make an adapter and measure it: finetune, evaluate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pointpeft.cli import options
from pointpeft.cli.console import headline, reading, resumable, show, speak, tell, warn
from pointpeft.formats import counted, human_bytes, percent, percent_range
from pointpeft.locations import resolve_adapter
from pointpeft.memory import keep_freed_memory

__all__ = ["evaluate", "finetune"]


def finetune(
    overrides: options.Overrides = None,
    data: options.Data = None,
    task: options.Task = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="full, linear, point-peft, idpt, stag, or your own: my_package.module:MyConfig."
        ),
    ] = None,
    model: options.Model = None,
    checkpoint: options.Checkpoint = None,
    output: options.Output = Path("runs/finetune"),
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    seeds: Annotated[
        int | None, typer.Option(help="Repeat with this many seeds; report the spread.")
    ] = None,
    variant: options.Variant = None,
    up_axis: options.UpAxis = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    resume: options.Resume = False,
    save_published: options.SavePublished = False,
) -> None:
    """Adapt a backbone to labelled shapes, or to shapes with labelled parts; save the adapter.

    The best epoch is chosen on the validation split; the test split is used once, at the end.
    """
    from pointpeft import training

    settings = options.read_settings(
        training.FinetuneConfig, overrides, output, config, resume, device, task=task, data=data,
        method=method, model=model, checkpoint=checkpoint, seed=seed, seeds=seeds, epochs=epochs,
        up_axis=up_axis, variant=variant, save_published=save_published,
    )  # fmt: skip
    speak()
    keep_freed_memory()
    with resumable(output), reading() as progress:
        metrics = training.finetune(settings, output, resume, progress)
    if "folds" in metrics:
        _print_folds(metrics, output)
        return
    _list_notes(metrics)
    tell(
        f"trained {metrics['trainable_parameters']:,} of {metrics['total_parameters']:,} "
        f"parameters, stored {human_bytes(metrics['stored_bytes'])}"
    )
    tell(f"adapter, metrics and log of the run: {output}")
    _show_scores(metrics, output, "test", in_detail=False)


def evaluate(
    adapter: options.Adapter,
    data: Annotated[str, typer.Option(help="As for finetune.")],
    output: options.Output = Path("runs/evaluate"),
    split: Annotated[str | None, typer.Option(help="train, val, test or all.")] = None,
    variant: options.Variant = None,
    votes: Annotated[
        int, typer.Option(help="Also measure by voting over this many random views.")
    ] = 0,
    protocol: Annotated[
        str, typer.Option(help="honest, or published: read and vote as in the papers.")
    ] = "honest",
    seed: options.Seed = None,
    checkpoint: options.Checkpoint = None,
    method: options.Method = None,
    up_axis: options.UpAxis = None,
    device: options.Device = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Clouds at a time; by default as in the adapter's run.")
    ] = None,
) -> None:
    """Measure a saved adapter on labelled shapes, or on shapes with labelled parts."""
    from pointpeft.data.shapes import check_source

    resolve_adapter(adapter)
    check_source(data, variant)
    options.know_method(method)
    from pointpeft.measure.evaluate import evaluate_adapter  # slow

    with reading() as progress:
        metrics = evaluate_adapter(
            adapter, data, output, progress, split=split, variant=variant, protocol=protocol,
            votes=votes, seed=seed or 0, checkpoint=checkpoint, up_axis=up_axis,
            device=device or "auto", batch_size=batch_size,
        )  # fmt: skip
    _list_notes(metrics)
    for item in metrics["skipped"]:
        warn(item, label="skipped")
    tell(f"metrics: {output / 'metrics.json'}")
    _show_scores(metrics, output, metrics["split"], in_detail=True)


def _show_scores(metrics: dict[str, Any], output: Path, split: str, in_detail: bool) -> None:
    from pointpeft.tasks.table import find_task  # slow

    if (output / "report.html").is_file():
        tell(f"report: {output / 'report.html'}")
    show(find_task(metrics["task"]).scores(metrics, split, in_detail))


def _list_notes(metrics: dict[str, Any]) -> None:
    for note in metrics["notes"]:
        tell(f"note: {note}", style="dim")
    if metrics["skipped"]:
        warn(f"skipped: {counted(len(metrics['skipped']), 'unusable item')}")


def _print_folds(metrics: dict[str, Any], output: Path) -> None:
    if "test_accuracy_interval" in metrics:  # of one fold, which has no spread
        items = counted(metrics["test_items"], "shape")
        sure = percent_range(metrics["test_accuracy_interval"])
        spread = f"in 1 fold (95 % interval {sure}; {items})"
    else:
        each = ", ".join(percent(value) for value in metrics["test_accuracy_per_fold"])
        folds = counted(len(metrics["folds"]), "fold")
        spread = f"+- {percent(metrics['test_accuracy_std'])} over {folds} ({each})"
    tell(f"runs, adapters and metrics: {output}")
    headline(
        f"[bold]{metrics['way']}-way {metrics['shot']}-shot accuracy: "
        f"{percent(metrics['test_accuracy'])}[/] {spread}"
    )
