"""Which files of the package a module needs, read from its source."""

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src"


def local_imports(module: Path, counts: Callable[[Path], bool] = lambda _: True) -> set[Path]:
    """Return the package's files that a module imports, directly or through others, itself included.

    Files that do not count are left out, with what only they import.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        file = waiting.pop()
        if file in found or not counts(file):
            continue
        found.add(file)
        waiting += imports(file)
    return found


@cache
def imports(module: Path) -> list[Path]:
    """Return the package's files that a module imports directly."""
    nodes = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    return [path for node in nodes for name in _names(node) for path in _files(name)]


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _files(name: str) -> list[Path]:
    packages = name.split(".")
    if packages[0] != "pipeline":
        return []
    ways = [PACKAGE.joinpath(*packages[:end]) for end in range(2, len(packages) + 1)]
    files = [*(way / "__init__.py" for way in ways), ways[-1].with_suffix(".py")] if ways else []
    return [file for file in files if file.exists() and _does_something(file)]


@cache
def _does_something(file: Path) -> bool:
    """Return whether a module is more than a docstring, as the `__init__` of most packages is not."""
    return len(ast.parse(file.read_text(encoding="utf-8")).body) > 1
