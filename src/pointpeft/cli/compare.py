"""The verb compare: a grid of methods, backbones, data sets, shots and seeds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointpeft.cli import options
from pointpeft.cli.console import headline, resumable, show, tell, warn
from pointpeft.errors import ConfigError
from pointpeft.formats import counted
from pointpeft.progress import Meter

if TYPE_CHECKING:
    from pointpeft.training.grid import Comparison

__all__ = ["compare"]


def compare(
    overrides: options.Overrides = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Of `finetune`; with settings of its own: lora,r=4. May be repeated."),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="As for `finetune`. May be repeated.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A name of `pointpeft models`. May be repeated.")
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="Weights, as for `finetune`; once for each --model, in their order."),
    ] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option(help="Training shapes of each class, or all. May be repeated."),
    ] = None,
    lr_factor: Annotated[
        list[float] | None,
        typer.Option(help="Times the method's learning rate, to choose from. May be repeated."),
    ] = None,
    task: options.Task = None,
    output: options.Output = Path("runs/compare"),
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    seeds: Annotated[int, typer.Option(help="Runs of each method; report the spread.")] = 1,
    variant: options.Variant = None,
    up_axis: options.UpAxis = None,
    device: options.Device = None,
    jobs: Annotated[
        int, typer.Option(help="Runs at a time, each on one thread; of Ray, on each GPU.")
    ] = 1,
    engine: Annotated[str, typer.Option(help="processes, or ray.")] = "processes",
    config: options.ConfigFile = None,
    resume: options.Resume = False,
) -> None:
    """Compare methods on equal terms: equal epochs, and an equal search for the learning rate."""
    from pointpeft.training.config import FinetuneConfig
    from pointpeft.training.grid import Comparison

    _refuse_twice(overrides, {"data.source": data, "model": model, "checkpoint": checkpoint})
    settings = options.read_settings(
        FinetuneConfig, overrides, output, config, resume, device, task=task,
        data=data[0] if data else None, epochs=epochs, seed=seed, up_axis=up_axis, variant=variant,
    )  # fmt: skip
    models = tuple(model or [settings.model])
    unsaid = [settings.checkpoint] * len(models)
    lists = {"methods": method, "lr_factors": lr_factor, "shots": _numbers(shots)}
    comparison = Comparison(
        settings,
        models=models,
        checkpoints=tuple(checkpoint or unsaid),
        data=tuple(data or [settings.data.source]),
        seeds=seeds,
        **{name: tuple(values) for name, values in lists.items() if values},  # type: ignore[arg-type]
    )
    _run(comparison, output, resume, jobs, engine)


def _refuse_twice(overrides: list[str] | None, options: dict[str, list[str] | None]) -> None:
    for key in (each.partition("=")[0] for each in overrides or ()):
        if options.get(key):
            raise ConfigError(f"{key}=... and --{key.removesuffix('.source')}: give one of them")


def _numbers(shots: list[str] | None) -> list[int | None]:
    bad = [each for each in shots or () if each != "all" and not each.isdecimal()]
    if bad:
        raise ConfigError(f"`shots` must be a number or all, got {bad[0]!r}")
    return [None if each == "all" else int(each) for each in shots or ()]


def _run(comparison: "Comparison", output: Path, resume: bool, jobs: int, engine: str) -> None:
    comparison.check_sources()
    for each in comparison.chosen_methods:
        options.know_method(each.partition(",")[0])
    from pointpeft.measure.comparison_rows import shown, table_title, tables  # slow
    from pointpeft.measure.report.comparison_page import PAGE
    from pointpeft.training.comparison import compare as run_all

    with resumable(output), Meter("comparing") as meter:

        def progress(ended: str, done: int, total: int) -> None:
            tell(f"{done}/{total} {ended}", style="dim")
            meter.update(done, total)

        results = run_all(
            comparison, output, resume=resume, jobs=jobs, engine=engine, progress=progress
        )
    for table in tables(results["rows"]):
        headline("")
        tell(table_title(table), style="bold")
        show(shown(table))
    tell(f"results: {output / 'results.csv'}, {output / 'results.json'}")
    if results["rows"]:
        tell(f"page: {output / PAGE}")
    for failure in results["failures"]:
        where = output / failure["folder"]
        warn(f"{failure['run']}: {failure['message']} ({where})", label="failed")
    if results["failures"]:
        warn(
            f"{counted(len(results['failures']), 'run')} failed; the same command with --resume "
            "tries again"
        )
        raise typer.Exit(1)
