"""Test modules stand alone: what several of them need lies in tests/support, under a name that says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported_test_modules(source: str) -> Iterator[str]:
    """Names of test modules and conftests that some code imports."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names):
                imported = [f"{module}.{alias.name}" for alias in names]
            case _:
                continue
        for name in imported:
            parts = name.split(".")
            if "tests" in parts and any(part == "conftest" or part.startswith("test_") for part in parts):
                yield name


def test_no_test_module_is_imported() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    found = {str(file.relative_to(ROOT)): list(imported_test_modules(file.read_text())) for file in files}
    assert len(found) > 100
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from tests.shared.test_rows import SCHEMA",
        "from tests.shared import test_rows",
        "import tests.shared.test_rows as rows",
        "def late():\n    from tests.system.conftest import trainers",
    ],
)
def test_every_way_to_import_one_is_found(line: str) -> None:
    assert list(imported_test_modules(line))
    assert not list(imported_test_modules(line.replace("test_rows", "rows").replace("conftest", "trainers")))
