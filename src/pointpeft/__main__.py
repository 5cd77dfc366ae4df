"""``python -m pointpeft``."""

from pointpeft.cli import main

main()
