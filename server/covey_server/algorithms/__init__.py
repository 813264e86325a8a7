"""The learning algorithms that are installed, by the name that a configuration gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from covey.config import AlgorithmSettings, Config
from covey.config.installed_algorithms import import_implementation, installed_algorithms
from covey.errors import ConfigError, one_line
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.algorithm import Algorithm
from covey_server.member import Network

__all__ = ["ALGORITHMS", "Algorithm", "build_networks"]


class _Installed(Mapping[str, type[Algorithm]]):
    """The installed learning algorithms' classes by name; each is imported when it is first asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, type[Algorithm]] = {}

    def __getitem__(self, name: str) -> type[Algorithm]:
        """Return the class of the algorithm of this name.

        Raises:
            KeyError: no such algorithm is installed.
            ConfigError: the class cannot be imported, or is none.
        """
        if name not in self._loaded:
            self._loaded[name] = _load(name, installed_algorithms()[0][name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(installed_algorithms()[0])

    def __len__(self) -> int:
        return len(installed_algorithms()[0])


ALGORITHMS: Mapping[str, type[Algorithm]] = _Installed()


def build_networks(config: Config, spaces: EnvironmentSpaces, rng: np.random.Generator) -> dict[str, Network]:
    """Make the networks of one population member, with initial weights, for the configured algorithm."""
    return ALGORITHMS[config.algorithm.name].networks(config, spaces, rng)


def _load(name: str, settings: type[AlgorithmSettings]) -> type[Algorithm]:
    subject = f"algorithm.name {name!r}: implementation {settings.implementation!r}"
    try:
        found = import_implementation(settings)
    except Exception as exc:  # anything that a stranger's module raises when it is imported
        raise ConfigError(
            f"{subject} does not load ({type(exc).__name__}: {one_line(str(exc), 300)}); repair or uninstall its "
            "package"
        ) from exc
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise ConfigError(f"{subject} is {found!r}, expected a subclass of covey_server.algorithms.Algorithm")
    return found
