"""Which file of one's own a run's environment came from: kept in the run, so that later commands find it again."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from covey.config import Config
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
    """Write into a new run which file its environment is in, if it lies in a folder that `search` was given.

    Raises:
        StorageError: the run's directory cannot be written.
    """
    file = own_file(config.environment.name)
    if file is not None:
        depth = len(config.environment.name.partition(":")[0].split(".")) - (file.name != "__init__.py")
        folder = file.parents[depth]
        write_json(run.environment, {"file": str(file), "folder": str(folder), "sha256": _sha256(file)})


def recall_environment(run: RunDirectory, config: Config) -> None:
    """Search the folder that a run's environment came from, and the current one; warns if its file has changed.

    Raises:
        StorageError: what was written into the run cannot be read.
    """
    if not run.environment.exists():
        search(Path.cwd())
        return
    kept = read_json(run.environment)
    try:
        folder, sha256 = Path(kept["folder"]), str(kept["sha256"])
        if not folder.is_absolute():
            # Relative to where the command is given, a run from elsewhere could name a folder that came with it.
            raise ValueError(f"folder {str(folder)[:80]!r}, expected an absolute path")
    except (KeyError, TypeError, ValueError) as exc:
        raise StorageError(
            f"{run.environment} is not what a run holds ({type(exc).__name__}: {exc}); remove it, and start in the "
            "folder of the environment's file"
        ) from exc
    # A run may come from somebody else: what it brings along is not to be executed.
    if not folder.resolve().is_relative_to(run.path.resolve()):
        search(folder)
    search(Path.cwd())
    file = own_file(config.environment.name)
    if file is None:
        logger.warning("environment %s: %s is not there any more", config.environment.name, kept.get("file", folder))
    elif _sha256(file) != sha256:
        logger.warning("environment %s: %s has changed since the run began", config.environment.name, file)


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as exc:
        raise cannot_read(file, exc) from exc
