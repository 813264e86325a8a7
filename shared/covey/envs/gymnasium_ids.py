"""Environments that are known by an id in gymnasium's registry, such as `lbforaging:Foraging-8x8-2p-3f-v3`.

The package before the colon registers the environment when it is imported, and the environment must be its own: so
whoever allows a package to be imported allows no other package's environments.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
from gymnasium.envs.registration import registry

from covey.errors import EnvironmentLoadError

GYMNASIUM_ID = re.compile(r"([\w-]+/)?[A-Za-z0-9][\w.-]*-v\d+", re.ASCII)
"""How ids of gymnasium environments are written, such as `CartPole-v1` or `ALE/Pong-v5`."""


def registered(entry_point: str, module: str, environment_id: str) -> Callable[..., Any]:
    """The function that builds an environment of gymnasium's registry.

    Args:
        entry_point: The environment's whole name, for errors.
        module: The module that registers it, which is imported already.
        environment_id: The environment's id.

    Raises:
        EnvironmentLoadError: no such id is registered, or another package registers it.
    """
    spec = registry.get(environment_id)
    if spec is None:
        close = difflib.get_close_matches(environment_id, list(registry), n=1)
        hint = f"did you mean {module}:{close[0]}?" if close else "correct the id, or name the module that registers it"
        raise EnvironmentLoadError(
            f"environment {entry_point}: module {module!r} registers no gymnasium environment {environment_id!r}; "
            f"{hint}"
        )
    made_by = spec.entry_point
    owner = made_by if isinstance(made_by, str) else str(getattr(made_by, "__module__", ""))
    package = owner.partition(":")[0].partition(".")[0]
    if package != module.partition(".")[0]:
        raise EnvironmentLoadError(
            f"environment {entry_point}: {environment_id!r} is of package {package!r}, expected one of {module!r}; "
            f"name it {package}:{environment_id}"
        )

    def make(**config: Any) -> Any:
        """Build the environment without gymnasium's checker, which knows one agent alone."""
        with without_deprecations():
            return gymnasium.make(environment_id, **{"disable_env_checker": True, **config})

    return make


@contextlib.contextmanager
def without_deprecations() -> Iterator[None]:
    """Ignore deprecation warnings: callers cannot change what the modules of environments use."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield
