"""Finds an environment by its name and builds it, with a one-sentence error for all that can go wrong."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import logging
import pkgutil
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from covey.envs.array_watch import WATCHED_COPIES
from covey.envs.named_agents import with_names
from covey.envs.slots import BatchedEnvironment, describe
from covey.envs.turns import TurnsEnv
from covey.errors import EnvironmentLoadError

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv

DEFAULT_FUNCTIONS = ("parallel_env", "env")
"""Functions that an entry point without one may mean: the first of these that its module has."""

NUM_ENVS = "num_envs"
"""The parameter by which a function takes how many copies of an environment to build as one object."""

SHOWN_BY = "SHOWN_BY"
"""What a batched environment's module may name: the entry point of the environment that draws one copy of it."""

ENTRY_POINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?", re.ASCII)
"""How the names of environments are written: "package.module:function", or "package.module"."""

_VERSIONED = re.compile(r"(.+)_v(\d+)")
_MOVED = "pettingzoo.mpe."  # these environments have become the package mpe2
_PARALLEL_API = ("possible_agents", "observation_space", "action_space", "reset", "step", "close")
_AEC_API = ("possible_agents", "observation_space", "action_space", "reset", "step", "observe")
_BATCHED_API = (*_PARALLEL_API, "asynchronous", "attach")

MakeEnv = Callable[[], "ParallelEnv[str, Any, Any]"]
"""Builds a fresh copy of one environment."""

logger = logging.getLogger("covey.envs")


@dataclass(frozen=True)
class EnvironmentFactory:
    """Builds copies of an environment that is known by name, so that other processes can build it too.

    Attributes:
        entry_point: "package.module:function", or "package.module".
        config: Keyword arguments of the function.
    """

    entry_point: str
    config: Mapping[str, Any]

    def __call__(self) -> ParallelEnv[str, Any, Any]:
        """Build a copy with the parallel interface: AEC environments are wrapped, batched ones have few copies.

        Raises:
            EnvironmentLoadError: it does not import, the function refuses its arguments or fails, or what it
                returns is no environment of a known interface.
        """
        if self.batched:
            return cast("ParallelEnv[str, Any, Any]", self.batch(WATCHED_COPIES))
        env = self._build(self.config)
        if hasattr(env, "attach"):
            raise EnvironmentLoadError(
                f"environment {self.entry_point} gives {type(env).__name__}, which steps all its copies itself, "
                f"expected a function that is told how many by its parameter {NUM_ENVS}; leave that out of "
                f"environment.config, as environment.{NUM_ENVS} says it"
            )
        if hasattr(env, "agent_iter"):
            self._check(env, _AEC_API, "AEC")
            return cast("ParallelEnv[str, Any, Any]", with_names(TurnsEnv(env)))
        self._check(env, _PARALLEL_API, "parallel")
        return cast("ParallelEnv[str, Any, Any]", with_names(env))

    @property
    def batched(self) -> bool:
        """Whether the environment steps all its copies itself: its function takes `num_envs`, not set in config."""
        if NUM_ENVS in self.config:
            return False
        try:
            return NUM_ENVS in inspect.signature(_function(self.entry_point)).parameters
        except ValueError:  # a builtin without a signature
            return False

    @property
    def shown_by(self) -> str | None:
        """The entry point of the environment that draws one copy of this batched one; None if its module names none."""
        name = getattr(sys.modules[_function(self.entry_point).__module__], SHOWN_BY, None)
        return name if isinstance(name, str) else None

    def takes(self, keyword: str) -> bool:
        """Whether the function has a parameter of this name, or takes any keyword."""
        try:
            parameters = inspect.signature(_function(self.entry_point)).parameters
        except ValueError:  # a builtin without a signature
            return True
        return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def batch(self, num_envs: int) -> BatchedEnvironment:
        """Build `num_envs` copies as one object, of an environment that steps all its copies itself.

        Raises:
            EnvironmentLoadError: as for a single one.
        """
        env = self._build({**self.config, NUM_ENVS: num_envs})
        self._check(env, _BATCHED_API, "batched")
        if getattr(env, "count", num_envs) != num_envs:
            raise EnvironmentLoadError(
                f"environment {self.entry_point}: count is {env.count} where it is built with num_envs={num_envs}, "
                f"expected {num_envs}; set self.count = num_envs"
            )
        return cast("BatchedEnvironment", env)

    def _build(self, config: Mapping[str, Any]) -> Any:
        function = _function(self.entry_point)
        try:
            inspect.signature(function).bind(**config)
        except TypeError as exc:
            hint = _keyword_hint(function, config)
            raise EnvironmentLoadError(
                f"environment {self.entry_point}: {exc}{hint}; correct environment.config"
            ) from exc
        except ValueError:
            pass  # a builtin without a signature: the call itself will tell
        try:
            with _without_deprecations():
                return function(**config)
        except Exception as exc:
            raise EnvironmentLoadError(
                f"environment {self.entry_point}: building it with {dict(config)} raised {describe(exc)}; "
                "correct environment.config"
            ) from exc

    def _check(self, env: Any, names: Sequence[str], interface: str) -> None:
        missing = [name for name in names if not hasattr(env, name)]
        if missing:
            raise EnvironmentLoadError(
                f"environment {self.entry_point} gives {type(env).__name__} without {', '.join(missing)}, expected an "
                f"environment of the {interface} interface"
            )


def load_environment(entry_point: str, config: Mapping[str, Any]) -> EnvironmentFactory:
    """Find an environment's function by its name; returns an object that builds the environment.

    Args:
        entry_point: "package.module:function", or "package.module" for its `parallel_env`, else `env`; names of
            `pettingzoo.mpe` mean the package mpe2. Importing the module runs its code: ask `allowed` first if the name
            came over a wire.
        config: Keyword arguments of the function.

    Raises:
        EnvironmentLoadError: the module does not import or has no such function.
    """
    name = present_name(entry_point)
    if name != entry_point:
        _tell_moved(entry_point, name)
    _function(name)
    return EnvironmentFactory(name, dict(config))


def present_name(entry_point: str) -> str:
    """The name under which an environment is found today: those of `pettingzoo.mpe` have become the package mpe2."""
    return "mpe2." + entry_point.removeprefix(_MOVED) if entry_point.startswith(_MOVED) else entry_point


@functools.cache
def _tell_moved(entry_point: str, name: str) -> None:
    logger.warning("environment %s: pettingzoo.mpe has become the package mpe2; taking %s", entry_point, name)


@contextlib.contextmanager
def _without_deprecations() -> Iterator[None]:
    """Ignore deprecation warnings: callers cannot change what the modules of environments use."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def _function(entry_point: str) -> Callable[..., Any]:
    """Import the function that builds the environment.

    Raises:
        EnvironmentLoadError: the module does not import, or has no such function.
    """
    if not ENTRY_POINT.fullmatch(entry_point):
        raise EnvironmentLoadError(f"environment {entry_point!r}: expected package.module or package.module:function")
    name, _, attribute = entry_point.partition(":")
    try:
        with _without_deprecations():
            module = importlib.import_module(name)
    except Exception as exc:  # the module's own code may raise anything
        raise EnvironmentLoadError(f"environment {entry_point}: {_import_reason(name, exc)}") from exc
    for candidate in [attribute] if attribute else DEFAULT_FUNCTIONS:
        function = getattr(module, candidate, None)
        if callable(function):
            return function  # type: ignore[no-any-return]
    raise EnvironmentLoadError(_no_function(entry_point, module, attribute))


def _import_reason(name: str, exc: Exception) -> str:
    """Say in words why importing a module failed, and what to do about it."""
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        if name == exc.name or name.startswith(exc.name + "."):
            parent = exc.name.rpartition(".")[0]
            if not parent:
                return f"no module {exc.name!r} is installed; {_own_file_hint(exc.name)}"
            near = _nearest_module(exc.name)
            hint = f"did you mean {near}?" if near else "install its package here, or correct the name"
            return f"no module {exc.name!r} in package {parent!r}; {hint}"
        return f"module {name!r} needs {exc.name!r}, which is not installed; install it here"
    return f"importing {name!r} raised {describe(exc)}; repair its package, or correct the name"


def _own_file_hint(name: str) -> str:
    """What to do about a module that is not installed; its file may lie in this folder, perhaps by a similar name."""
    here = [path.stem for path in Path.cwd().glob("*.py")]
    here += [path.parent.name for path in Path.cwd().glob("*/__init__.py")]
    if name in here:
        return f"{name}.py lies in this folder, which is not searched: start with --env-path ."
    if close := difflib.get_close_matches(name, here, n=1):
        return f"did you mean {close[0]}, which lies in this folder?"
    return "install its package here, start in the folder of its file, or correct the name"


def _nearest_module(name: str) -> str | None:
    """Return the installed module that was probably meant: another version, or a similar name; None if none."""
    parent, _, wanted = name.rpartition(".")
    beside = [m.name for m in pkgutil.iter_modules(sys.modules[parent].__path__)]
    versioned = _VERSIONED.fullmatch(wanted)
    if versioned:
        versions = [
            (abs(int(found[2]) - int(versioned[2])), m)
            for m in beside
            if (found := _VERSIONED.fullmatch(m)) and found[1] == versioned[1]
        ]
        if versions:
            return f"{parent}.{min(versions)[1]}"
    close = difflib.get_close_matches(wanted, beside, n=1)
    return f"{parent}.{close[0]}" if close else None


def _no_function(entry_point: str, module: types.ModuleType, attribute: str) -> str:
    """Make the error sentence for a function that a module does not have, with a similar name if there is one."""
    wanted = repr(attribute) if attribute else " or ".join(map(repr, DEFAULT_FUNCTIONS))
    functions = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
    close = difflib.get_close_matches(attribute, functions, n=1)
    hint = f"; did you mean {module.__name__}:{close[0]}?" if close else "; name one as package.module:function"
    return f"environment {entry_point}: module {module.__name__!r} has no function {wanted}{hint}"


def _keyword_hint(function: Callable[..., Any], config: Mapping[str, Any]) -> str:
    """For a keyword that a function does not have, return a hint: a similar one, or all that it has; else ""."""
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    unknown = [k for k in config if k not in known]
    if not unknown or not known:
        return ""
    close = difflib.get_close_matches(unknown[0], known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (it takes {', '.join(known)})"
