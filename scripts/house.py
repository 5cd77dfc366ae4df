"""Prints how the code of the package is built: its size, circles between files, and what is long.

python scripts/house.py
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "src"
PACKAGE = "pointpeft"


def modules() -> dict[str, Path]:
    """Files of the package by the names that they are imported under."""
    found = {}
    for path in sorted(ROOT.glob(f"{PACKAGE}/**/*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, also inside functions, but not for types alone.

    ``from package import name`` is an import of the module ``package.name`` if there is one. What a
    package itself offers counts as an import of its ``__init__``.
    """
    found = set()
    for node in _run_code(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & known.keys()


def _run_code(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run_code(child)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by way of any number of others (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == number[name]:
            place = stack.index(name)
            group, stack[place:] = stack[place:], []
            if len(group) > 1 or name in graph[name]:
                found.append(sorted(group))

    for name in graph:
        if name not in number:
            visit(name)
    return found


def functions(known: dict[str, Path]) -> list[tuple[int, str]]:
    """Lines of every function and where it is, the longest first."""
    found = []
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                found.append((node.end_lineno - node.lineno + 1, f"{name}.{node.name}"))
    return sorted(found, reverse=True)


def count_any(known: dict[str, Path]) -> int:
    """Arguments and results of functions whose type is ``Any``."""
    count = 0
    for path in known.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                given = node.args
                types = [a.annotation for a in (*given.args, *given.kwonlyargs)] + [node.returns]
                count += sum(isinstance(t, ast.Name) and t.id == "Any" for t in types)
    return count


_NAMES = re.compile(
    r"save_?published|save-published-format|(protocol|rule)=published|\"published\""
    "|honest, or published",
    re.IGNORECASE,
)
"""Settings of the first version, and their values."""


_NETWORKS = "adapter|backbone|base|encoder|model|network|trunk|tuner"
"""Names of what has a type that says what it is."""


def says_published(path: Path) -> bool:
    """Whether code or comments of a file say "published", but for names of settings.

    Docstrings may, where they cite results.
    """
    text = path.read_text(encoding="utf-8")
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = [line for n, line in enumerate(text.splitlines(), 1) if n not in documented]
    return "published" in _NAMES.sub("", "\n".join(lines)).lower()


def table() -> list[tuple[str, str]]:
    """What is printed: a name and a value in each row."""
    known = modules()
    texts = {name: path.read_text(encoding="utf-8") for name, path in known.items()}
    lines = {name: text.count("\n") for name, text in texts.items()}
    longest = max(lines, key=lambda name: lines[name])
    of_functions = functions(known)
    compat = f"{PACKAGE}.compat"
    outside = [n for n in known if not n.startswith(compat) and says_published(known[n])]
    guesses = [
        name
        for name, text in texts.items()
        if re.search(rf"\b[gh](?:et|as)attr\((?:self\.)?(?:{_NETWORKS}),", text)
    ]
    rings = circles({name: imports(path, known) for name, path in known.items()})
    rows = [
        ("files", f"{len(known):,}"),
        ("lines", f"{sum(lines.values()):,}"),
        ("circles between files", f"{len(rings):,}"),
        ('files with "published" outside compat/', f"{len(outside):,}"),
        ("files that guess a model by an attribute", f"{len(guesses):,}"),
        ("Any in signatures", f"{count_any(known):,}"),
        ("longest file", f"{longest} ({lines[longest]:,} lines)"),
        ("longest function", f"{of_functions[0][1]} ({of_functions[0][0]:,} lines)"),
        ("functions over 60 lines", f"{sum(lines > 60 for lines, _ in of_functions):,}"),
    ]
    return rows + [("circle", " - ".join(ring)) for ring in rings]


if __name__ == "__main__":
    print("\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in table())]))
