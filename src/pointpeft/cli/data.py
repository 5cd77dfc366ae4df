"""The verb data: show what a data set holds, check published ones, convert them to one file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from pointpeft.cli import options
from pointpeft.cli.console import reading, show_table, tell, warn
from pointpeft.formats import counted

if TYPE_CHECKING:
    from pointpeft.data.benchmarks import DatasetCheck

__all__ = ["app"]


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
        "check benchmark data sets, convert them to one .npz, or look after the cache of prepared "
        "shapes."
    ),
)
"""The verb as Typer knows it."""

Benchmark = Annotated[
    Path, typer.Argument(help="Folder of a benchmark data set, or of several of them.")
]


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
    for note in shapes.notes:
        tell(f"note: {note}", style="dim")
    for problem in shapes.problems:
        warn(f"{problem.item}: {problem.reason}", label="unusable")
    if export is not None:
        count = export_folder(shapes, export)
        tell(f"wrote {counted(count, 'cloud')} below {export}")


@app.command(cls=options.verb(variant="all that are there"))
def check(
    path: Benchmark,
    variant: options.Variant = None,
) -> None:
    """Read benchmark data sets whole, and compare their numbers with the published ones."""
    from pointpeft.data.benchmarks import check_benchmark

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


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of it.")] = False,
) -> None:
    """Say where prepared shapes are kept and how much room they take; --clear removes them."""
    from pointpeft.data.cache import cache_limit, cached_files, clear_cache, default_cache_dir

    folder = default_cache_dir()
    if clear:
        tell(f"removed {counted(clear_cache(), 'prepared shape')} from {folder}")
        return
    files = cached_files()
    size = sum(size for _, size, _ in files)
    tell(f"{folder}: {counted(len(files), 'prepared shape')}, {size / 1e9:.2f} GB")
    tell(
        f"limit: {cache_limit() / 1e9:g} GB, above which those not used for longest are removed; "
        "POINTPEFT_CACHE_LIMIT sets another one in GB, POINTPEFT_CACHE another place"
    )


def _counts(found: "DatasetCheck") -> Table:
    """Shapes by class and split, and how many were published."""
    table = Table("class", *(split.name for split in found.splits))
    for label, name in enumerate(found.class_names):
        table.add_row(escape(name), *(str(split.class_counts[label]) for split in found.splits))
    table.add_section()
    table.add_row("all", *(str(split.count) for split in found.splits))
    table.add_row("released", *(str(split.released) for split in found.splits))
    return table
