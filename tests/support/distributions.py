"""What the source distribution and the wheel must hold, and must not: `python -m tests.support.distributions DIR`.

`make dist` runs it on what it has built.
"""

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import covey

ROOT = Path(__file__).parents[2]
PACKAGES = {"covey": "shared", "covey_server": "server", "covey_actor": "actor_client"}
"""Import packages, and the folders that hold them."""

FOLDERS = {".ci", "actor_client", "benchmarks", "docs", "examples", "proto", "server", "shared", "tests"}
FILES = {
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "NOTICE", "README.md", "SECURITY.md"),
    *(".gitignore", "Makefile", "PKG-INFO", "constraints.txt", "pyproject.toml"),
}
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE"}
EXTRAS = {"learner", "mpe", "games", "render", "wandb"}
"""Extras that the package's page names; there are more, for developers."""


def wheel_of(folder: Path) -> Path:
    """The one wheel of this version in a folder."""
    (path,) = folder.glob(f"covey_marl-{covey.__version__}-py3-none-any.whl")
    return path


def source_of(folder: Path) -> Path:
    """The one source distribution of this version in a folder."""
    (path,) = folder.glob(f"covey_marl-{covey.__version__}.tar.gz")
    return path


def faults(folder: Path) -> list[str]:
    """What is wrong with the distributions in this folder, a sentence each; empty: nothing."""
    return [*_faults_of_wheel(wheel_of(folder)), *_faults_of_source(source_of(folder))]


def _faults_of_wheel(path: Path) -> Iterator[str]:
    info = f"covey_marl-{covey.__version__}.dist-info"
    expected = {file for package, parent in PACKAGES.items() for file in _sources(ROOT / parent, package)}
    expected |= {f"{info}/{name}" for name in METADATA}
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    yield from (f"{path.name}: {name} is missing" for name in sorted(expected - names))
    yield from (f"{path.name}: {name} is too much" for name in sorted(names - expected))
    yield from (f"{path.name}: {p}/py.typed is missing" for p in PACKAGES if f"{p}/py.typed" not in names)
    given = {key: metadata[key] for key in ("Name", "Version", "License-Expression", "Author")}
    if list(given.values()) != ["covey-marl", covey.__version__, "Apache-2.0", "The covey authors"]:
        yield f"{path.name}: expected name, version, licence and author in its metadata, got {given}"
    absent = EXTRAS - set(metadata.get_all("Provides-Extra", []))
    if absent:
        yield f"{path.name}: extras {', '.join(sorted(absent))} are missing"
    for target in re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload())):
        if not target.startswith(("https://", "#")):
            yield f"{path.name}: its description links to {target}, which is not on a package index"


def _faults_of_source(path: Path) -> Iterator[str]:
    with tarfile.open(path) as archive:
        # Every name begins with the distribution's own folder.
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = FILES | {file for folder in FOLDERS for file in _sources(ROOT, folder)}
    yield from (f"{path.name}: {name} is missing" for name in sorted(expected - names))
    yield from (f"{path.name}: {name} is too much" for name in sorted(names - expected))


def _sources(parent: Path, folder: str) -> set[str]:
    """Files below a folder by their names from its parent, without what Python leaves beside them."""
    files = (p for p in (parent / folder).rglob("*") if p.is_file())
    return {p.relative_to(parent).as_posix() for p in files if p.parent.name != "__pycache__"}


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]))
    print("\n".join(found) if found else f"{sys.argv[1]}: source distribution and wheel hold what they must")
    sys.exit(bool(found))
