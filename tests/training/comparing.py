"""Runs the cells of a comparison without new processes, which take seconds to start."""

from collections.abc import Iterator, Sequence

from pointpeft.training.cells import Cell, run_cell


def run_here(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, str | None]]:
    """One after the other, in this process."""
    for cell in cells:
        run_cell(cell)
        yield cell, None
