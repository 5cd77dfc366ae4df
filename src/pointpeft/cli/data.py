"""The verb data: show what a data set holds, check and convert published ones, write shards."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from pointpeft.cli import options
from pointpeft.cli.console import reading, show_table, tell, warn
from pointpeft.formats import counted, human_bytes

if TYPE_CHECKING:
    from pointpeft.data.benchmarks import DatasetCheck
    from pointpeft.data.prepared_items import Problem
    from pointpeft.data.shards import ShardIndex

__all__ = ["app"]

_NOTES = 20  # that are shown; thousands of files may have one each


class _ShowByDefault(TyperGroup):
    """``pointpeft data SOURCE`` means ``pointpeft data show SOURCE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``show`` first where no verb is."""
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ShowByDefault,
    help=(
        "Show what a data set holds (the default; --export DIR also writes its prepared clouds), "
        "check benchmark data sets and shards, convert to one .npz, write shards for pre-training, "
        "or look after the cache of prepared shapes."
    ),
)
"""The verb as Typer knows it."""

Benchmark = Annotated[Path, typer.Argument(help="Folder of a benchmark data set, or of several.")]


@app.command(cls=options.verb(up_axis="y", export="nothing is written"))
def show(
    source: Annotated[str, typer.Argument(help="As for finetune --data.")] = "homeobjects",
    up_axis: options.UpAxis = None,
    variant: options.Variant = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the prepared clouds there, a folder per class.")
    ] = None,
) -> None:
    """Show classes, splits and unusable items as training would read them; --export the clouds."""
    from pointpeft.data import InputTransform, load_shapes
    from pointpeft.data.export import export_folder
    from pointpeft.data.shards import ShardIndex, is_sharded

    if is_sharded(source) and export is None:
        _tell_of_shards(ShardIndex.read(source))
        return
    transform = InputTransform(up_axis=up_axis or "y")  # type: ignore[arg-type]
    with reading() as progress:
        shapes = load_shapes(source, transform, variant=variant, progress=progress)
    table = Table("class", "train", "val", "test")
    parts = (shapes.train, shapes.val, shapes.test)
    for label, name in enumerate(shapes.class_names):
        table.add_row(escape(name), *(str(int((part.labels == label).sum())) for part in parts))
    table.add_section()
    table.add_row("all", *(str(len(part)) for part in parts))
    show_table(table)
    if len(shapes.unlabelled):
        tell(f"{counted(len(shapes.unlabelled), 'shape')} without a label")
    for note in shapes.notes[:_NOTES]:
        tell(f"note: {note}", style="dim")
    if (more := len(shapes.notes) - _NOTES) > 0:
        tell(f"and {counted(more, 'note')} more", style="dim")
    _warn_of(shapes.problems, "unusable")
    if export is not None:
        count = export_folder(shapes, export)
        tell(f"wrote {counted(count, 'cloud')} below {export}")


@app.command(cls=options.verb(variant="all that are there"))
def check(
    path: Benchmark,
    variant: options.Variant = None,
) -> None:
    """Read benchmark data sets whole, and compare with the published numbers; or shards."""
    from pointpeft.data.benchmarks import check_benchmark
    from pointpeft.data.shards import is_sharded, verify_shards

    if is_sharded(path):
        with reading("reading shards") as progress:
            problems = list(verify_shards(path, progress))
        _warn_of(problems, "problem")
        if problems:
            raise typer.Exit(1)
        tell("complete: every shard holds what was written")
        return
    with reading() as progress:
        checks = check_benchmark(path, variant, progress)
    for each in checks:
        tell(f"{each.title} ({each.name}): {each.folder}", style="bold")
        if each.splits:
            show_table(_counts(each))
        for problem in each.problems:
            warn(problem, label="problem")
    if any(each.problems for each in checks):
        raise typer.Exit(1)
    tell("complete: nothing is missing or differs from what was released")


@app.command(cls=options.verb())
def convert(
    path: Benchmark,
    output: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    variant: options.Variant = None,
) -> None:
    """Write a benchmark data set as one .npz, which loads faster than its files."""
    from pointpeft.data.benchmarks import convert_benchmark

    with reading("writing shapes") as progress:
        count = convert_benchmark(path, output, variant, progress)
    tell(f"wrote {counted(count, 'shape')} to {output}")


@app.command(
    cls=options.verb(
        up_axis="y",
        num_points="2048, or as many as an .npz holds",
        procedural="none",
        workers="the cores, up to 8; below 256 shapes or 4 cores 0",
    )
)
def shard(
    source: Annotated[
        str, typer.Argument(help="As for pretrain --data; 'procedural' with --shapes.")
    ],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    num_points: Annotated[
        int | None, typer.Option("--points", help="Points to store of each shape.")
    ] = None,
    normalize: Annotated[str, typer.Option(help="As data.normalize: unit_ball or none.")] = (
        "unit_ball"
    ),
    up_axis: options.UpAxis = None,
    variant: options.Variant = None,
    procedural: Annotated[
        int | None, typer.Option("--shapes", help="Number of procedural shapes.")
    ] = None,
    shard_size: Annotated[int, typer.Option(help="Shapes of a file.")] = 8192,
    on_error: Annotated[
        str, typer.Option(help="Unusable shapes: skip and list them, or refuse.")
    ] = "skip",
    seed: options.Seed = 0,
    workers: Annotated[int | None, typer.Option(help="Processes that read; 0: none.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in --output.")] = False,
) -> None:
    """Write shapes of any number as shards, from which pretrain streams."""
    from pointpeft.data.shards import write_shards

    how: Any = {"normalize": normalize, "up_axis": up_axis or "y", "on_error": on_error}
    try:
        with reading("writing shards") as progress:
            index = write_shards(
                source, output, num_points=num_points, variant=variant, procedural=procedural,
                shard_size=shard_size, seed=seed or 0, workers=workers, resume=resume,
                progress=progress, **how,
            )  # fmt: skip
    except KeyboardInterrupt:
        warn("complete shards are kept; the same command with --resume goes on", label="stopped")
        raise
    _warn_of(index.problems, "unusable")
    _tell_of_shards(index)
    tell(f"wrote them to {output}")


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of it.")] = False,
) -> None:
    """Say where prepared shapes and views of teachers are kept, and their size; or remove them."""
    from pointpeft.data.array_cache import (
        cache_limit,
        cached_files,
        clear_cache,
        default_cache_dir,
    )

    folder = default_cache_dir()
    if clear:
        tell(f"removed {counted(clear_cache(), 'file')} from {folder}")
        return
    files = cached_files()
    size = sum(size for _, size, _ in files)
    tell(f"{folder}: {counted(len(files), 'file')}, {size / 1e9:.2f} GB")
    tell(
        f"limit: {cache_limit() / 1e9:g} GB, above which those not used for longest are removed; "
        "POINTPEFT_CACHE_LIMIT sets another one in GB, POINTPEFT_CACHE another place"
    )


def _tell_of_shards(index: "ShardIndex") -> None:
    size = human_bytes(sum(shard.size for shard in index.shards))
    tell(
        f"{counted(index.shapes, 'shape')} of {index.transform.num_points} points in "
        f"{counted(len(index.shards), 'shard')}, {size}; left out: {len(index.problems)}"
    )
    if not index.complete:
        warn(f"not complete: {index.listed} of {index.total} shapes are dealt with")


def _warn_of(problems: Iterable["Problem"], label: str) -> None:
    for problem in problems:
        warn(f"{problem.item}: {problem.reason}", label=label)


def _counts(found: "DatasetCheck") -> Table:
    """Shapes by class and split, and how many were published."""
    table = Table("class", *(split.name for split in found.splits))
    for label, name in enumerate(found.class_names):
        table.add_row(escape(name), *(str(split.class_counts[label]) for split in found.splits))
    table.add_section()
    table.add_row("all", *(str(split.count) for split in found.splits))
    table.add_row("released", *(str(split.released) for split in found.splits))
    return table
