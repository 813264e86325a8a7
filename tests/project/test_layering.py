"""Who may import whom, and what nobody may touch."""

import ast
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"covey": ROOT / "shared", "covey_server": ROOT / "server", "covey_actor": ROOT / "actor_client"}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of a module's syntax tree; many of the tests read all modules."""
    return list(ast.walk(ast.parse(path.read_text())))


def modules(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*.py")) if "_pb2" not in p.name]


def imports(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, wherever in it: also late, and for type checkers."""
    for node in nodes(path):
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
        for node in nodes(p)
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


# -- rooms ------------------------------------------------------------------------------------------------------------

ROOMS = {
    "covey_server": {
        "": {"api"},
        "app": {
            *("attendance", "build", "learner", "coordination", "curves", "durability", "evolution", "ingest"),
            *("packing", "security", "serving", "storage", "training"),
        },
        "cli": {"compliance", "detached", "processes", "train"},
        "compliance": {"experience", "ingest", "orders"},
        "detached": set(),
        "train": {"app", "coordination", "processes", "security"},
        "processes": set(),
        "api": {
            *("app", "attendance", "build", "learner", "member", "population", "seeds"),
            *("algorithms", "coordination", "evolution", "experience", "ingest", "packing", "storage"),
        },
        "serving": {
            *("attendance", "learner", "member", "coordination", "durability", "evolution", "ingest", "orders"),
            *("security", "training"),
        },
        "security": set(),
        "training": {
            *("build", "learner", "member", "population", "seeds"),
            *("coordination", "curves", "durability", "evolution", "orders"),
        },
        "durability": {
            *("build", "learner", "member", "population", "coordination", "evolution", "experience", "ingest"),
            *("orders", "storage"),
        },
        "ingest": {"attendance", "learner", "population", "coordination", "experience", "orders", "storage"},
        "attendance": {"learner", "population", "coordination", "orders", "storage"},
        "build": {
            *("member", "population", "seeds", "algorithms", "evolution", "experience", "packing", "storage"),
        },
        "learner": {"member", "population", "algorithms", "coordination", "curves", "evolution", "orders", "storage"},
        "population": {"member", "algorithms", "evolution", "experience", "orders", "packing"},
        "algorithms": {"member", "experience", "orders", "packing"},
        "experience": {"packing", "storage"},
        "packing": {"member"},
        "storage": {"member", "coordination", "evolution"},
        "curves": {"member", "evolution"},
        "evolution": {"member", "seeds"},
        "orders": {"member", "seeds"},
        "coordination": set(),
        "member": set(),
        "seeds": set(),
    },
    "covey": {
        "": {"lazy", "config", "envs", "progress", "run", "scripting"},
        "__main__": {"cli"},
        "page": {"cli", "experiments", "run", "scripting", "errors"},
        "scripting": {"cli", "config", "run", "errors"},
        "cli": {
            *("acting", "bounds", "collect", "config", "envs", "experiments", "run", "wire", "v1"),
            *("errors", "rows", "spaces"),
        },
        "bounds": {"collect", "config", "networks", "wire", "errors", "rows", "spaces"},
        "experiments": {"config", "envs", "run", "errors", "resources"},
        "run": {"acting", "config", "envs", "networks", "wire", "errors", "spaces"},
        "collect": {"acting", "envs", "wire", "v1", "errors", "rows", "spaces"},
        "acting": {"networks", "wire", "v1", "observations", "rows", "spaces"},
        "envs": {"lazy", "wire", "errors", "rows", "spaces"},
        "config": {"networks", "wire", "errors", "spaces"},
        "wire": {"networks", "v1", "errors", "spaces"},
        "networks": {"errors", "spaces"},
        "v1": set(),
        "errors": set(),
        "lazy": set(),
        "observations": {"spaces"},
        "progress": {"config", "errors"},
        "resources": set(),
        "rows": {"errors", "spaces"},
        "spaces": {"errors"},
    },
}
"""Which room or root module of a package may import which others of it; what is not here may not."""


def sources(package: str) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    folder = FOLDERS[package] / package
    names = {}
    for path in modules(folder):
        parts = [package, *path.relative_to(folder).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def arrows(package: str) -> dict[str, set[str]]:
    """By module, the modules of the same package that it imports: late ones and those for type checkers included."""
    found = sources(package)
    result: dict[str, set[str]] = {name: set() for name in found}
    for name, path in found.items():
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                targets = {f"{node.module}.{alias.name}" for alias in node.names}
                result[name] |= {t if t in found else node.module for t in targets} & found.keys()
            elif isinstance(node, ast.Import):
                result[name] |= {alias.name for alias in node.names} & found.keys()
        result[name].discard(name)
    return result


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Sets of nodes that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        ahead = list(graph[start])
        while ahead:
            node = ahead.pop()
            if node not in seen:
                seen.add(node)
                ahead.extend(graph.get(node, ()))
        reached[start] = seen
    found = {tuple(sorted(b for b in reached[a] if a in reached.get(b, ()))) for a in graph if a in reached[a]}
    return [list(circle) for circle in sorted(found)]


def room(package: str, module: str) -> str:
    """The room that a module is in, or the root module that it is; "" for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def pairs(package: str) -> dict[str, set[str]]:
    """By room, the other rooms that its modules import."""
    result: dict[str, set[str]] = {}
    for module, targets in arrows(package).items():
        own = room(package, module)
        result.setdefault(own, set()).update({room(package, t) for t in targets} - {own})
    return result


@pytest.mark.parametrize("package", list(FOLDERS))
def test_no_module_imports_one_that_imports_it(package: str) -> None:
    graph = arrows(package)
    assert len(graph) > 5, "no sources found: the test looks in the wrong place"
    assert circles(graph) == []


@pytest.mark.parametrize("package", list(ROOMS))
def test_rooms_import_only_what_lies_below_them(package: str) -> None:
    allowed = ROOMS[package]
    found = pairs(package)
    assert found.keys() == allowed.keys(), "every room and root module is in the list, and nothing else"
    assert {r: sorted(its - allowed[r]) for r, its in found.items() if its - allowed[r]} == {}
    assert circles(allowed) == []


def test_the_roots_hold_few_modules() -> None:
    most = {"covey_server": 12, "covey": 9}
    counts = {package: len([*(FOLDERS[package] / package).glob("*.py")]) for package in most}
    assert all(counts[package] <= number for package, number in most.items()), counts


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}
    assert circles(graph) == [["a", "b", "c"]]
