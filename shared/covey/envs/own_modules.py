"""Environments in files of one's own: folders that are searched for them, and names that are files."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from covey.errors import EnvironmentLoadError

_FILE = re.compile(r"(?P<file>.+\.py)(?P<function>:.*)?", re.DOTALL)

_searched: list[Path] = []


def search(*folders: Path) -> None:
    """Let Python find modules in these folders too, after everything that is installed."""
    for folder in [folder.resolve() for folder in folders]:
        if folder not in _searched:
            _searched.append(folder)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def searched() -> tuple[Path, ...]:
    """The folders that `search` was given, for processes that are to find the same modules."""
    return tuple(_searched)


def entry_point_of(name: str, *folders: Path) -> str:
    """The entry point of an environment that may be named by its file, as in `./tag.py:parallel_env`.

    Args:
        name: A file with or without a function, whose folder is searched from now on; any other name is returned.
        folders: Where a relative path may begin, in turn.

    Raises:
        EnvironmentLoadError: there is no such file, or Python would find another module than this one.
    """
    match = _FILE.fullmatch(name)
    if match is None:
        return name
    paths = [(folder / Path(match["file"]).expanduser()).resolve() for folder in folders]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        where = " or ".join(str(folder.resolve()) for folder in dict.fromkeys(folders))
        raise EnvironmentLoadError(f"environment {name}: no such file, looked in {where}; correct the path")
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():  # a module of a package, which may import its neighbours
        parts, folder = [folder.name, *parts], folder.parent
    module = ".".join(parts)
    if not all(part.isidentifier() for part in parts):
        raise EnvironmentLoadError(
            f"environment {name}: {module!r} can be no module's name, expected letters, digits and _; rename the file"
        )
    search(folder)
    if not _found_in(parts[0], folder):
        raise EnvironmentLoadError(
            f"environment {name}: Python finds another module {parts[0]!r} than the one in {folder}; rename the file"
        )
    return module + (match["function"] or "")


def own_file(entry_point: str) -> Path | None:
    """The file of an entry point's module, if it is found in one of the folders searched; it is not imported."""
    parts = entry_point.partition(":")[0].split(".")
    for folder in _searched:
        for path in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")):
            if path.is_file() and _found_in(parts[0], folder):
                return path
    return None


def _found_in(module: str, folder: Path) -> bool:
    """Whether Python finds a top-level module in a folder; it is not imported."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # a module that was not imported from anywhere, such as __main__
        return False
    if spec is None:
        return False
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    return any(place is not None and Path(place).resolve().is_relative_to(folder) for place in places)
