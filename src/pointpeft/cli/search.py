"""Verbs around features of shapes: embed, search."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pointpeft.cli import options
from pointpeft.cli.console import reading, show_table, tell, warn
from pointpeft.cli.corpora import make_shards
from pointpeft.data.corpus import is_shard_folder
from pointpeft.data.feature_files import check_target, existing_features
from pointpeft.errors import ConfigError
from pointpeft.formats import counted
from pointpeft.output_lock import locked

if TYPE_CHECKING:
    from pointpeft.measure.feature_index import Index
    from pointpeft.measure.nearest import Matches

__all__ = ["embed", "search"]

Adapter = Annotated[
    str | None,
    typer.Option(help="Adapter or run folder, or hf://owner/name: features of that network."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def embed(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SHAPES",
            help="A data set ('homeobjects', an .npz, a folder), or meshes, scans, and folders.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(help="File to write, features.npz or .parquet, or folder for shards of rows."),
    ],
    model: options.Model = None,
    checkpoint: options.Checkpoint = None,
    adapter: Adapter = None,
    method: options.Method = None,
    batch_size: Annotated[int, typer.Option(help="Clouds that are encoded at once.")] = 32,
    up_axis: options.UpAxis = None,
    variant: options.Variant = None,
    engine: options.Engine = "processes",
    shard_size: options.ShardSize = None,
    workers: Annotated[
        int | None, typer.Option(help="Of a folder of shards: processes that read files; 0: none.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the folder of shards in --output.")
    ] = False,
    device: options.Device = None,
) -> None:
    """Write one feature for every shape, to search among them or for anything else."""
    if not output.suffix:
        _embed_corpus(
            sources, output, model, checkpoint, adapter, method, batch_size, up_axis, variant,
            engine=engine, shard_size=shard_size, workers=workers, resume=resume, device=device,
        )  # fmt: skip
        return
    for name, given in (("engine", engine != "processes"), ("shard_size", shard_size),
                        ("workers", workers), ("resume", resume)):  # fmt: skip
        if given:
            raise ConfigError(f"`{name}` is for a folder of shards: name one, without a suffix, as "
                              "`output`")  # fmt: skip
    check_target(output)
    options.know_method(method)
    from pointpeft.measure.embedding import embed as embed_shapes  # slow

    with locked(output):
        with reading("embedding shapes") as progress:
            index = embed_shapes(
                sources, model, checkpoint, adapter, batch_size=batch_size, up_axis=up_axis,
                variant=variant, device=device or "auto", progress=progress,
            )  # fmt: skip
        index.save(output)
    for note in index.notes:
        tell(f"note: {note}", style="dim")
    _list_problems(index)
    channels = index.features.shape[1]
    tell(f"features of {counted(len(index), 'shape')}, {channels} channels each: {output}")
    tell(f"model: {index.model}")
    if index.problems:
        raise typer.Exit(1)


def _embed_corpus(
    sources: list[str], output: Path, model: str | None, checkpoint: str | None,
    adapter: str | None, method: str | None, batch_size: int, up_axis: str | None,
    variant: str | None, **how: Any,
) -> None:  # fmt: skip
    if variant is not None:
        raise ConfigError("`variant` names a data set: write its features into one file")
    options.know_method(method)
    from pointpeft.measure.corpus import Features  # slow

    make_shards(
        "embedding", Features(model, checkpoint, adapter, batch_size, up_axis), sources, output,
        **how,
    )  # fmt: skip


def search(
    index: Annotated[Path, typer.Option(help="File or folder that `pointpeft embed` wrote.")],
    queries: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[QUERY]...", help="What to look for: as for embed."),
    ] = None,
    top: Annotated[int, typer.Option(help="How many to find for each query.")] = 10,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Find near-duplicates within the index instead.")
    ] = False,
    threshold: Annotated[
        float, typer.Option(help="Of duplicates: least cosine similarity.")
    ] = 0.999,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page with pictures.")] = None,
    checkpoint: options.Checkpoint = None,
    adapter: Adapter = None,
    method: options.Method = None,
    up_axis: options.UpAxis = None,
    device: options.Device = None,
) -> None:
    """Find the shapes that are most like others, or near-duplicates in a set."""
    if duplicates == bool(queries):
        what = "`duplicates` takes no" if duplicates else "pass `duplicates`, or a"
        raise ConfigError(f"{what} QUERY: a file or folder to look for")
    if not is_shard_folder(index):
        existing_features(index)
    options.know_method(method)
    from pointpeft.measure.feature_index import Index  # slow

    stored = Index.load(index)
    if queries:
        _search(stored, queries, top, as_json, html, checkpoint=checkpoint, adapter=adapter,
                up_axis=up_axis, device=device or "auto")  # fmt: skip
    else:
        _find_duplicates(stored, threshold, as_json, html)


def _search(
    index: "Index", queries: list[Path], top: int, as_json: bool, html: Path | None, **model: Any
) -> None:
    from pointpeft.measure.embedding import embed as embed_shapes  # slow

    with reading("embedding queries") as progress:
        embedded = embed_shapes(queries, like=index, progress=progress, **model)
    found = index.search(embedded, top)
    if html is not None:
        from pointpeft.measure.contact_sheet import write_search_sheet

        write_search_sheet(html, embedded, index, found)
    if as_json:
        print(json.dumps(_as_json(embedded, index, found), indent=2))
    else:
        _show_matches(embedded, index, found)
        _list_problems(embedded)
        _tell_page(html)
    if embedded.problems:
        raise typer.Exit(1)


def _find_duplicates(index: "Index", threshold: float, as_json: bool, html: Path | None) -> None:
    with reading("comparing shapes") as progress:
        groups = index.duplicates(threshold, progress)
    if html is not None:
        from pointpeft.measure.contact_sheet import write_duplicates_sheet

        write_duplicates_sheet(html, index, groups, threshold)
    if as_json:
        values = [[_one(index, *pair) for pair in group.pairs()] for group in groups]
        print(json.dumps(values, indent=2))
        return
    table = Table("group", "shape", "class", "similarity to the first")
    for number, group in enumerate(groups, start=1):
        _add_rows(table, str(number), index, group.pairs())
    if groups:
        show_table(table)
    tell(
        f"{counted(len(groups), 'group')} of near-duplicates among {counted(len(index), 'shape')}, "
        f"similarity of at least {threshold:g}"
    )
    _tell_page(html)


def _show_matches(queries: "Index", index: "Index", found: "Matches") -> None:
    table = Table("query", "nearest", "class", "similarity")
    for query, pairs in zip(queries.ids, found.pairs(), strict=True):
        _add_rows(table, query, index, pairs)
    show_table(table)


def _add_rows(table: Table, of: str, index: "Index", pairs: list[tuple[int, float]]) -> None:
    """Shapes that belong together; the first row says what they are of."""
    for row, (place, similarity) in enumerate(pairs):
        table.add_row(
            escape(of) if row == 0 else "", escape(index.ids[place]),
            escape(index.class_of(place) or "-"), f"{similarity:.4f}",
        )  # fmt: skip


def _as_json(queries: "Index", index: "Index", found: "Matches") -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = [
        {"query": query, "neighbours": [_one(index, *pair) for pair in pairs], "error": None}
        for query, pairs in zip(queries.ids, found.pairs(), strict=True)
    ]
    return values + [
        {"query": problem.item, "neighbours": [], "error": problem.reason}
        for problem in queries.problems
    ]


def _one(index: "Index", place: int, similarity: float) -> dict[str, Any]:
    return {
        "id": index.ids[place],
        "class": index.class_of(place),
        "similarity": round(similarity, 6),
    }


def _list_problems(index: "Index") -> None:
    for problem in index.problems:
        warn(f"{problem.item}: {problem.reason}", label="not read")


def _tell_page(html: Path | None) -> None:
    if html is not None:
        tell(f"page: {html}")
