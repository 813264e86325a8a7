"""Prints docstrings drawn at random: who knows the field but not covey should understand each of them, read alone.

`python -m tests.support.draw_docstrings --seed 1`
"""

from __future__ import annotations

import argparse
import ast
import random
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("shared", "server", "actor_client")


def docstrings(root: Path = ROOT) -> list[tuple[str, str]]:
    """Where each docstring stands ("folder/file.py: Class.function") and its text; generated files are left out."""
    paths = [path for folder in SOURCES for path in sorted((root / folder).rglob("*.py")) if "v1" not in path.parts]
    return [
        (f"{path.relative_to(root)}: {name}" if name else str(path.relative_to(root)), text)
        for path in paths
        for name, text in _of(ast.parse(path.read_text()))
    ]


def _of(node: ast.AST, name: str = "") -> Iterator[tuple[str, str]]:
    """Name and docstring of a module, class or function, and of all that is defined in it."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        if text := ast.get_docstring(node):
            yield name, text
        for child in ast.iter_child_nodes(node):
            own = getattr(child, "name", "")
            yield from _of(child, f"{name}.{own}".strip("."))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout, to compare with")
    arguments = parser.parse_args()
    found = docstrings(arguments.root)
    for i, (place, text) in enumerate(random.Random(arguments.seed).sample(found, arguments.count), 1):
        print(f"{i}. {place}\n\n{text}\n")


if __name__ == "__main__":
    main()
