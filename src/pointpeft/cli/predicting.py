"""The verb predict, which prints what it finds as it is found."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointpeft.cli import options
from pointpeft.cli.console import reading, show, tell, warn
from pointpeft.cli.corpora import make_shards
from pointpeft.errors import ConfigError
from pointpeft.formats import counted
from pointpeft.locations import resolve_adapter
from pointpeft.output_lock import locked

if TYPE_CHECKING:
    from pointpeft.measure.corpus import Work
    from pointpeft.tasks.shown import Outcome, Predicted

__all__ = ["predict"]

_PAGE = 1000
"""Files in one table: a larger one is not held in memory."""


def predict(
    files: Annotated[list[str], typer.Argument(help="Meshes, scans, or folders of them.")],
    adapter: options.Adapter,
    category: Annotated[str | None, typer.Option(help="Of parts: what the shapes are.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Of classes: file for a row per shape, .csv, .jsonl, .json or .parquet, or folder "
            "for shards of rows. Of parts: folder for labelled clouds."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the file or folder in --output."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Clouds that the model sees at once.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Of classes: processes that read files; 0: none.")
    ] = None,
    neighbors_from: Annotated[
        str | None, typer.Option(help="Training data, to name the shapes that are nearest.")
    ] = None,
    engine: options.Engine = "processes",
    shard_size: options.ShardSize = None,
    checkpoint: options.Checkpoint = None,
    method: options.Method = None,
    up_axis: options.UpAxis = None,
    device: options.Device = None,
) -> None:
    """Name the class of each mesh or scan, or the parts that its points belong to."""
    folder = resolve_adapter(adapter)
    options.know_method(method)
    from pointpeft.devices import choose_device
    from pointpeft.measure.loaded_adapter import adapter_task, list_shape_files  # slow
    from pointpeft.tasks.table import find_task
    from pointpeft.tasks.task import PredictOptions

    task = find_task(adapter_task(folder))
    output = output or task.output
    how = PredictOptions(category, output, resume, batch_size, workers, neighbors_from)
    in_shards = task.rows and output is not None and not output.suffix
    if in_shards or engine != "processes" or (shard_size is not None and not task.rows):
        work = task.row_work(folder, how, checkpoint=checkpoint, up_axis=up_axis)
        _predict_corpus(
            work, files, output, as_json, engine=engine, shard_size=shard_size, resume=resume,
            workers=workers, device=device,
        )  # fmt: skip
        return
    if shard_size is not None:
        raise ConfigError("`shard_size` is for a folder of shards: name one as `output`")
    with locked(output):
        named = list(dict.fromkeys(list_shape_files(files, output)))  # named twice, done once
        found = task.predict(
            folder, named, how, checkpoint=checkpoint, up_axis=up_axis,
            device=choose_device(device or "auto"),
        )  # fmt: skip
        _show(found, as_json)


def _show(found: "Predicted", as_json: bool) -> None:
    """Print what is found as it is found; files that could not be used end the command with 1."""
    for note in found.notes:
        warn(note, label="note")
    shown = _show_json if as_json else _show_table if found.written is None else _show_summary
    try:
        failed = shown(found)
    except KeyboardInterrupt:
        if found.written is not None:
            warn(f"rows of {found.written} are kept; --resume goes on with it", label="stopped")
        raise
    if failed + found.failed:
        raise typer.Exit(1)


def _predict_corpus(
    work: "Work", files: list[str], output: Path | None, as_json: bool, **how: Any
) -> None:
    if output is None or output.suffix or as_json:
        raise ConfigError(
            "results are a folder of shards here: name one, without a suffix, as `output`, and "
            "leave `as_json` out"
        )
    make_shards("predicting", work, files, output, **how)


def _outcomes(found: "Predicted") -> "Iterator[Outcome]":
    """The outcomes, with a bar that says how many are left."""
    with reading("predicting") as progress:
        for done, one in enumerate(found.outcomes, start=1):
            yield one
            progress(done, found.total)


def _show_json(found: "Predicted") -> int:
    """One list, printed as it grows; returns how many files could not be used."""
    failed, between = 0, "["
    for one in _outcomes(found):
        failed += one.error is not None
        print(between + "\n" + textwrap.indent(json.dumps(one.value, indent=2), "  "), end="")
        between = ","
    print("[]" if between == "[" else "\n]")
    return failed


def _show_table(found: "Predicted") -> int:
    """A table, of many files one for each thousand; returns how many could not be used."""
    failed = 0
    page: list[Outcome] = []
    for one in _outcomes(found):
        failed += one.error is not None
        page.append(one)
        if len(page) == _PAGE:
            _show_page(found, page)
            page = []
    _show_page(found, page)
    return failed


def _show_page(found: "Predicted", page: "list[Outcome]") -> None:
    from pointpeft.tasks.shown import Shown

    show(Shown(found.columns, [row for one in page for row in one.rows]))
    for one in page:
        _warn_of(one)


def _warn_of(one: "Outcome") -> None:
    for warning in one.warnings:
        warn(f"{one.file}: {warning}")
    if one.error:
        warn(one.error, label="not read")


def _show_summary(found: "Predicted") -> int:
    """How many files there were; returns how many could not be used."""
    failed = warned = 0
    for one in _outcomes(found):
        failed += one.error is not None
        warned += bool(one.warnings)
    before = f", {found.done} of them before" if found.done else ""
    tell(f"results of {counted(found.total + found.done, 'file')}{before}: {found.written}")
    if warned:
        warn(f"{counted(warned, 'file')} of {found.total} with warnings: see the file")
    if failed + found.failed:
        warn(f"not read: {counted(failed + found.failed, 'file')}: see the file")
    return failed
