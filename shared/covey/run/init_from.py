"""`training.init_from`: the member of another run that a new run's members begin as, "RUN", "RUN:best" or "RUN:ID"."""

from __future__ import annotations

import re
from pathlib import Path

from covey.config import Config
from covey.run.directory import RunDirectory

BEST = "best"


def parse_source(text: str) -> tuple[Path, str]:
    """Split a source into the run's directory and whose weights are meant: BEST, or the id of a living member."""
    path, _, who = text.rpartition(":")
    if path and re.fullmatch(rf"{BEST}|[0-9]{{1,18}}", who):
        return Path(path), who
    return Path(text), BEST


def with_absolute_source(config: Config) -> Config:
    """The configuration with the path of `training.init_from` made absolute, as the run may be resumed from elsewhere.

    Raises:
        StorageError: there is no such run.
    """
    source = config.training.init_from
    if source is None:
        return config
    path, who = parse_source(source)
    RunDirectory.open(path)
    training = config.training.model_copy(update={"init_from": f"{path.resolve()}:{who}"})
    return config.model_copy(update={"training": training})
