"""Which files of one's own a run's environment and networks came from: kept in the run, for later commands."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from covey.config import Config
from covey.config.architecture import modules_of
from covey.envs.own_modules import entry_point_of, own_file, search
from covey.errors import StorageError
from covey.run.directory import RunDirectory
from covey.run.files import cannot_read, read_json, write_json

logger = logging.getLogger("covey.envs")


def with_entry_point(config: Config, *folders: Path) -> Config:
    """The configuration with the environment's entry point where it names a file; these folders are searched for it.

    Args:
        config: Of a run.
        folders: The configuration's and the current one.

    Raises:
        EnvironmentLoadError: there is no such file, or Python would find another module than this one.
    """
    search(*folders)
    name = entry_point_of(config.environment.name, *folders)
    return config.model_copy(update={"environment": config.environment.model_copy(update={"name": name})})


def remember_environment(run: RunDirectory, config: Config) -> None:
    """Write into a new run where its environment and its modules of networks are, in folders that `search` was given.

    Raises:
        StorageError: the run's directory cannot be written.
    """
    kept: dict[str, Any] = {}
    file = own_file(config.environment.name)
    if file is not None:
        folder = _searched(config.environment.name, file)
        kept = {"file": str(file), "folder": str(folder), "sha256": _sha256(file)}
    own = [(module, own_file(module)) for module in modules_of(config.network)]
    folders = [str(_searched(module, its)) for module, its in own if its is not None]
    if kept or folders:
        write_json(run.environment, kept | ({"modules": folders} if folders else {}))


def recall_environment(run: RunDirectory, config: Config) -> None:
    """Search the folders that a run's environment and modules came from, and the current one.

    Warns if the environment's file has changed.

    Raises:
        StorageError: what was written into the run cannot be read.
    """
    if not run.environment.exists():
        search(Path.cwd())
        return
    kept = read_json(run.environment)
    try:
        folders = [Path(folder) for folder in kept.get("modules", ())]
        sha256 = None
        if not folders or "folder" in kept:  # else the environment is installed, and modules alone are one's own
            folders, sha256 = [Path(kept["folder"]), *folders], str(kept["sha256"])
        for folder in folders:
            if not folder.is_absolute():
                # Relative to where the command is given, a run from elsewhere could name a folder that came with it.
                raise ValueError(f"folder {str(folder)[:80]!r}, expected an absolute path")
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise StorageError(
            f"{run.environment} is not what a run holds ({type(exc).__name__}: {exc}); remove it, and start in the "
            "folder of the environment's file"
        ) from exc
    # A run may come from somebody else: what it brings along is not to be executed.
    search(*(folder for folder in folders if not folder.resolve().is_relative_to(run.path.resolve())), Path.cwd())
    if sha256 is None:
        return
    file = own_file(config.environment.name)
    if file is None:
        logger.warning("environment %s: %s is not there any more", config.environment.name, kept.get("file"))
    elif _sha256(file) != sha256:
        logger.warning("environment %s: %s has changed since the run began", config.environment.name, file)


def _searched(name: str, file: Path) -> Path:
    """Return the folder in which a module of this dotted name was found as this file."""
    return file.parents[len(name.partition(":")[0].split(".")) - (file.name != "__init__.py")]


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as exc:
        raise cannot_read(file, exc) from exc
