"""Makes the directory of a new run, with its configuration."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from covey.config import Config
from covey.run.directory import RunDirectory
from covey.run.files import cannot_write
from covey.run.frozen_opponents import check_sources, keep_opponents


def new_run(config: Config, parent: Path) -> RunDirectory:
    """Create the directory of a new run, with the run's configuration and copies of its opponents from elsewhere.

    Args:
        config: The run's configuration; its name becomes a part of the directory's name.
        parent: Folder in which the directory is created.

    Raises:
        StorageError: the directory or the configuration cannot be written, or an opponent that the configuration names
            by path cannot be read.
        ConfigError: such an opponent does not play the agent.
    """
    check_sources(config)  # before there is a directory
    run = RunDirectory.create(parent, config.name)
    keep_opponents(run, config)
    write_config(run, config)
    return run


def write_config(run: RunDirectory, config: Config) -> None:
    """Write a run's configuration into its directory, in one step: a crash leaves all of it or none.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = run.config.with_name(f".config.yaml.{os.getpid()}.tmp")
    try:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        temporary.replace(run.config)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise cannot_write(run.config, exc) from exc
