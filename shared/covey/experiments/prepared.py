"""Reads what a sweep is to train, and refuses what cannot be, before anything starts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from covey.config import Config, load_config
from covey.config.architecture import resolve
from covey.errors import ConfigError
from covey.experiments.grid import Combination, override
from covey.experiments.sweep_directory import COMBINATION, Plan, without_seed
from covey.run.directory import RunDirectory
from covey.run.files import write_json
from covey.run.frozen_opponents import check_sources, keep_opponents, with_absolute_opponents
from covey.run.init_from import with_absolute_source
from covey.run.new_run import write_config
from covey.run.own_environment import remember_environment, with_entry_point


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration file with the settings that all runs of a sweep share; makes their directories.

    Attributes:
        file: The configuration.
        fixed: Values of `--set` that all runs have, "section.key=value".
    """

    file: Path
    fixed: Sequence[str]

    def config(self, combination: Combination | None = None) -> Config:
        """The configuration of a run, or what all have in common.

        Raises:
            ConfigError: the file cannot be read, a key does not exist, or a value is not acceptable.
            EnvironmentLoadError: the environment's file is not there.
            StorageError: there is no run that `training.init_from` names.
        """
        own = combination.overrides if combination is not None else ()
        # As covey train has it, by which runs are trained.
        config = load_config(self.file, [*self.fixed, *own, "environment.spaces_from=local"])
        if config.learner.tls is not None:
            raise ConfigError(
                "learner.tls is set, expected none for covey sweep, whose actors reach their learners over loopback; "
                "leave it out"
            )
        return with_absolute_opponents(with_absolute_source(with_entry_point(config, self.file.parent, Path.cwd())))

    def plan(self, varied: dict[str, list[Any]], seeds: Sequence[int], study: dict[str, Any] | None = None) -> Plan:
        """What sweep.json says of a sweep with these values and seeds."""
        config = without_seed(self.config().model_dump(mode="json"))
        return Plan(str(self.file), config, varied, list(seeds), study)

    def check(self, chosen: Sequence[Combination]) -> None:
        """Refuse the first combination that cannot be trained here, before any is.

        Raises:
            ConfigError: a key that does not exist, or a value that is not acceptable; says of which combination.
            StorageError: an opponent that is named by path cannot be read.
            EnvironmentLoadError: an environment does not import.
            ModuleNotFoundError: torch is not installed.
        """
        settings = list(dict.fromkeys(combination.settings for combination in chosen))
        configs = [self.config(Combination(values, chosen[0].seed)) for values in settings]
        if find_spec("torch") is None:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        networks_vary = any(key.partition(".")[0] == "network" for values in settings for key, _ in values)
        seen: list[Any] = []
        for config in configs:
            check_sources(config)
            if config.environment not in seen or networks_vary:
                seen.append(config.environment)
                _check_environment(config, networks=networks_vary)

    def make_run(self, path: Path, combination: Combination) -> None:
        """Make a run's directory ready for `covey train --resume`, unless it is already.

        Raises:
            StorageError: it cannot be written.
        """
        run = RunDirectory(path)
        if run.config.is_file():
            return
        config = self.config(combination)
        remember_environment(run, config)
        keep_opponents(run, config)
        write_json(path / COMBINATION, {"settings": dict(combination.settings), "seed": combination.seed})
        write_config(run, config)  # last, as by this file a run is known


def _check_environment(config: Config, *, networks: bool) -> None:
    """Import the environment, for the error that it may be; with `networks` build one, to see if networks fit it."""
    from covey.envs import load_environment, read_spaces

    environment = config.environment
    with contextlib.redirect_stdout(sys.stderr):  # where it prints; results go to stdout
        make = load_environment(environment.name, environment.config)
        if not networks:
            return
        env = make()
        try:
            spaces = read_spaces(env, environment.groups, environment.ignore_observations)
        finally:
            env.close()
    resolve(config.network, spaces, config.algorithm.share_parameters)


def fixed_and_varied(values: dict[str, list[Any]]) -> tuple[list[str], dict[str, list[Any]]]:
    """Split the values of `--set` into overrides that all runs have, and the keys of which there are several values."""
    fixed = [override(key, found[0]) for key, found in values.items() if len(found) == 1]
    return fixed, {key: found for key, found in values.items() if len(found) > 1}
