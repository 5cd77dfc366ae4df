"""The command line."""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``pointpeft``; see :func:`pointpeft.cli.app.main`."""
    from pointpeft.cli.app import main as run  # the assembly of all verbs

    run(arguments)
