"""Shards of a corpus, made under a bar, and what is said of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pointpeft.cli.console import reading, tell, warn
from pointpeft.data.corpus import is_shard_folder
from pointpeft.formats import counted

if TYPE_CHECKING:
    from pointpeft.measure.corpus import Work

__all__ = ["make_shards"]


def make_shards(
    title: str,
    work: "Work",
    sources: Sequence[str | Path],
    output: Path,
    device: str | None,
    refuse: bool = True,
    **how: Any,
) -> None:
    """Make a folder of shards; arguments are those of ``make_corpus``.

    With ``refuse``, files that could not be used end the command with 1.
    """
    from pointpeft.measure.corpus import make_corpus  # slow

    try:
        with reading(title) as progress:
            made = make_corpus(
                work, sources, output, device=device or "auto", progress=progress, **how
            )
    except KeyboardInterrupt:
        if is_shard_folder(output):
            warn(f"{output} holds what was done; --resume goes on with it", label="stopped")
        raise
    for note in made.notes:
        warn(note, label="note")
    before = f", {made.before} of them before" if made.before else ""
    shards = counted(made.folder.shards, "shard")
    tell(f"rows of {counted(made.files, 'file')} in {shards}{before}: {output}")
    if made.failed:
        warn(f"not read: {counted(made.failed, 'file')}: see the column `error`")
        if refuse:
            raise typer.Exit(1)
