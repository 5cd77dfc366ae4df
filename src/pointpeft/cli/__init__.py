"""The ``pointpeft`` command: it parses, calls the library and prints."""

from pointpeft.cli.app import main

__all__ = ["main"]
