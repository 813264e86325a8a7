"""Who may import whom, and what nobody may touch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"covey": ROOT / "shared", "covey_server": ROOT / "server", "covey_actor": ROOT / "actor_client"}


def modules(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*.py")) if "_pb2" not in p.name]


def imports(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, wherever in it: also late, and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func) and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value.split(".")[0]


def offenders(folder: Path, banned: set[str]) -> list[str]:
    return [f"{p.relative_to(ROOT)} imports {name}" for p in modules(folder) for name in imports(p) if name in banned]


@pytest.mark.parametrize(
    ("package", "banned"),
    [
        ("covey", {"covey_server", "covey_actor", "torch", "tensorboard"}),
        ("covey_actor", {"covey_server", "torch", "tensorboard"}),
        ("covey_server", {"covey_actor"}),
    ],
)
def test_a_package_imports_only_what_its_layer_may(package: str, banned: set[str]) -> None:
    assert modules(FOLDERS[package] / package), "no sources found: the test looks in the wrong place"
    assert offenders(FOLDERS[package], banned) == []


@pytest.mark.parametrize("package", list(FOLDERS))
def test_nothing_is_unpickled(package: str) -> None:
    assert (
        offenders(FOLDERS[package], {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}) == []
    )
    calls = [
        f"{p.relative_to(ROOT)}:{node.lineno}"
        for p in modules(FOLDERS[package])
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.Call)
        and (
            ast.unparse(node.func) in ("torch.load", "torch.save")
            or any(keyword.arg == "allow_pickle" for keyword in node.keywords)
        )
    ]
    assert calls == []


def test_pickles_travel_between_a_process_and_its_own_children_alone() -> None:
    """A user's functions reach a worker in no other way; its pipe is inherited, so nobody else can write to it."""
    users = {
        p.relative_to(ROOT).as_posix()
        for folder in FOLDERS.values()
        for p in modules(folder)
        if "Cloudpickle" in p.read_text() or "multiprocessing" in set(imports(p))
    }
    assert users == {"shared/covey/envs/processes.py", "shared/covey/envs/worker.py"}


def test_the_check_sees_every_way_to_import(tmp_path: Path) -> None:
    source = tmp_path / "late.py"
    source.write_text(
        "import a.b\ndef f():\n    from c.d import e\n    import importlib\n    importlib.import_module('g.h')\n"
    )
    assert set(imports(source)) == {"a", "c", "importlib", "g"}


def test_no_file_is_over_400_lines() -> None:
    files = [
        p
        for folder in (*FOLDERS.values(), ROOT / "tests", ROOT / "proto", ROOT / "benchmarks")
        for p in modules(folder)
    ]
    long = [f"{p.relative_to(ROOT)}: {n}" for p in files if (n := len(p.read_text().splitlines())) > 400]
    assert long == []
