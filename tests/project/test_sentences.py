"""Sentences for people read as sentences: no colon stands between a subject and its verb."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

VERBS = (
    "is|are|was|were|has|have|had|holds?|does|do|did|cannot|can|could|needs?|gives?|gave|serves|says|asks|hangs|ends|"
    "ended|must|may|will|would|comes?|came|leads|lacks|names|joined|stops|answers|answered|raises|raised|returned|makes|"
    "runs|ran|keeps|means|wants|takes|lies|belongs|differs|expects|started|sends|sent|listens|knows|exists|allows|uses|"
    "appears|shows|fits|plays|reads|refuses"
)
SPLIT = re.compile(rf"[^:;,(]{{1,60}}: (?:also |not )?(?:{VERBS})\b")


def texts(source: str) -> Iterator[str]:
    """Every string of a program that is no docstring; what is filled in is {}."""
    tree = ast.parse(source)
    within = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    within |= {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in within:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("room", ["shared", "server", "actor_client"])
def test_no_colon_parts_a_subject_from_its_verb(room: str) -> None:
    sources = [p for p in (ROOT / room).rglob("*.py") if "_pb2" not in p.name]
    assert len(sources) > 5
    assert [
        f"{p.relative_to(ROOT)}: {text}" for p in sources for text in texts(p.read_text()) if SPLIT.match(text)
    ] == []


@pytest.mark.parametrize(
    ("source", "split"),
    [
        ("x = f'environment {name!r}: is not on the list'", True),
        ("x = './runs: holds no run; give RUN'", True),
        ("x = f'{path}: cannot be ' f'read ({why})'", True),
        ("x = f'training.seed: {value}, expected a number'", False),
        ("x = f'{path} cannot be read: no such file'", False),
        ("def f():\n    'A docstring: is not looked at.'", False),
    ],
)
def test_what_counts_as_such_a_colon(source: str, split: bool) -> None:
    assert any(SPLIT.match(text) for text in texts(source)) is split
