"""The directory of a sweep: `sweep.json`, which says what is trained, and a directory for each run.

sweep.json               file, settings, varied keys with their values, seeds, and a digest of the settings
sweep.lock               held while sweep.json is written
algorithm.lr=0.001,seed=3/   a run, as `covey train` makes one;
with combination.json, claim.lock and train.log beside
optuna.log               the study, where Optuna chooses the settings
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey.errors import ConfigError, CoveyError, StorageError
from covey.run import SWEEP
from covey.run.files import cannot_write, read_json, write_json

COMBINATION = "combination.json"
"""File in a run's directory that says which settings and seed of the sweep the run has."""

VERSION = 1
"""Format of sweep.json."""

MOST_NAMED = 5
"""Most differences that an error lists."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep trains.

    Attributes:
        file: The configuration's path, as it was given.
        config: The validated configuration with all fixed settings, without its seed.
        varied: Values (or, for a study, "LOW..HIGH") by dotted key.
        seeds: The seeds.
        study: What Optuna is told beside; None where all combinations are trained.
    """

    file: str
    config: dict[str, Any]
    varied: dict[str, list[Any]]
    seeds: list[int]
    study: dict[str, Any] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all that runs of the sweep have in common: two sweeps with one digest train the same."""
        same = {"config": self.config, "varied": self.varied, "study": self.study}
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The content of sweep.json."""
        return {
            "version": VERSION,
            "file": self.file,
            "digest": self.digest,
            "seeds": self.seeds,
            "varied": self.varied,
            "study": self.study,
            "config": self.config,
        }


class SweepDirectory:
    """The directory of one sweep, by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def study(self) -> Path:
        """Journal of the Optuna study."""
        return self.path / "optuna.log"

    def run(self, name: str) -> Path:
        """Directory of the run with this name, which may not exist."""
        return self.path / name

    def runs(self) -> list[Path]:
        """Directories of the runs that have begun, by name.

        Raises:
            StorageError: the directory cannot be read.
        """
        try:
            return sorted(p for p in self.path.iterdir() if (p / "config.yaml").is_file())
        except OSError as exc:
            raise StorageError(
                f"{self.path} cannot be read ({os.strerror(exc.errno or 0)}); give a sweep's directory"
            ) from exc

    def read(self) -> Plan:
        """What the sweep trains.

        Raises:
            StorageError: sweep.json cannot be read, or a newer covey wrote it.
        """
        file = self.path / SWEEP
        if not file.is_file():
            raise StorageError(
                f"{self.path} is no sweep, expected a {SWEEP} in it; give a directory that covey sweep has made"
            )
        data = read_json(file)
        try:
            if data["version"] > VERSION:
                raise StorageError(f"{file} was written by a newer covey; read it with that one")
            return Plan(
                str(data["file"]),
                dict(data["config"]),
                {str(key): list(values) for key, values in data["varied"].items()},
                sorted(int(seed) for seed in data["seeds"]),
                None if data["study"] is None else dict(data["study"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise StorageError(
                f"{file} is not what covey sweep writes ({type(exc).__name__}: {exc}); give the sweep another --name"
            ) from exc

    def enter(self, plan: Plan) -> Plan:
        """Make the directory, or check that it is of the same sweep; returns the plan with the seeds of both.

        Seeds may be added to a sweep: they say how many runs there are, not what is trained.

        Raises:
            ConfigError: the directory is of a sweep with other settings; says what differs.
            StorageError: it is no sweep's directory, or cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise cannot_write(self.path, exc) from exc
        with self._locked():
            file = self.path / SWEEP
            if not file.exists():
                if any(p.is_dir() for p in self.path.iterdir()):
                    raise StorageError(
                        f"{self.path} holds other things than a sweep, expected a new directory; give another --name"
                    )
                write_json(file, plan.to_json())
                return plan
            before = self.read()
            if before.digest != plan.digest and (found := list(_differences(before, plan))):
                words = "; ".join(found[:MOST_NAMED]) + "; ..." * (len(found) > MOST_NAMED)
                raise ConfigError(
                    f"sweep {self.path} trains other settings than these ({words}), expected the same; give this one "
                    "another --name"
                )
            both = sorted({*before.seeds, *plan.seeds})
            if both != before.seeds:
                write_json(file, Plan(before.file, before.config, before.varied, both, before.study).to_json())
            return plan

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing sweep.json meanwhile."""
        file = self.path / "sweep.lock"
        try:
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise cannot_write(file, exc) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _differences(before: Plan, after: Plan) -> Iterator[str]:
    """What differs between two plans, in words."""
    for what in ("varied", "study"):
        old, new = getattr(before, what) or {}, getattr(after, what) or {}
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield f"{key} {_values(old.get(key))} -> {_values(new.get(key))}"
    old, new = flat(_today(before.config)), flat(after.config)
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            yield f"{key} {_value(old.get(key))} -> {_value(new.get(key))}"


def _today(config: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration as this version of covey writes it: keys that are new have their defaults."""
    from covey.config import parse_config
    from covey.config.stored import without_gone_keys

    try:
        return without_seed(parse_config(without_gone_keys(config)).model_dump(mode="json"))
    except CoveyError:
        return config


def without_seed(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as nested dictionaries, without the seed, which every run has its own of."""
    return {**config, "training": {key: v for key, v in config.get("training", {}).items() if key != "seed"}}


def flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Values of nested dictionaries by dotted key."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


def _values(values: object) -> str:
    """Several values of a key, for a person."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return ",".join(map(_value, values))
    return "not given" if values is None else _value(values)


def _value(value: Any) -> str:
    """A value for a person, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
