"""From a name to an environment: importing, building, and reading its spaces, with a sentence for all that can fail."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covey.errors import EnvironmentLoadError
from covey.messages import check_served
from covey.spaces import AgentSpec, EnvironmentSpaces, from_gymnasium

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv

DEFAULT_FUNCTION = "parallel_env"
DEFAULT_ALLOWED = ("pettingzoo.*", "mpe2.*")
"""Packages whose environments an actor builds because a learner says so."""

_ENTRY_POINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?", re.ASCII)
_PARALLEL_API = ("possible_agents", "observation_space", "action_space", "reset", "step")

MakeEnv = Callable[[], "ParallelEnv[str, Any, Any]"]
"""Builds a fresh copy of one environment."""


@dataclass(frozen=True)
class EnvironmentFactory:
    """Builds copies of one environment; picklable by its name, so that other processes can build it too."""

    entry_point: str
    config: Mapping[str, Any]

    def __call__(self) -> ParallelEnv[str, Any, Any]:
        """A fresh copy.

        Raises:
            EnvironmentLoadError: it does not import, the function refuses its arguments or fails, or what it
                returns is no parallel environment.
        """
        function = _function(self.entry_point)
        try:
            inspect.signature(function).bind(**self.config)
        except TypeError as exc:
            hint = _keyword_hint(function, self.config)
            raise EnvironmentLoadError(
                f"environment {self.entry_point}: {exc}{hint}; correct environment.config"
            ) from exc
        except ValueError:
            pass  # a builtin without a signature: the call itself will tell
        try:
            env = function(**self.config)
        except Exception as exc:
            raise EnvironmentLoadError(
                f"environment {self.entry_point}: building it with {dict(self.config)} raised {describe(exc)}; "
                "correct environment.config"
            ) from exc
        _check_parallel(env, self.entry_point)
        return env


def load_environment(entry_point: str, config: Mapping[str, Any]) -> EnvironmentFactory:
    """The factory of the environment "package.module" (its `parallel_env`) or "package.module:function".

    Args:
        entry_point: The name; importing the module runs its code, so check `allowed` before if it came over a wire.
        config: Keyword arguments of the function.

    Raises:
        EnvironmentLoadError: the module does not import or has no such function.
    """
    _function(entry_point)
    return EnvironmentFactory(entry_point, dict(config))


def allowed(entry_point: str, patterns: Sequence[str]) -> bool:
    """Whether the module of an entry point, or the whole of it, matches one of the patterns (`*` spans dots)."""
    if not _ENTRY_POINT.fullmatch(entry_point):
        return False
    module = entry_point.partition(":")[0]
    return any(fnmatch.fnmatchcase(module, p) or fnmatch.fnmatchcase(entry_point, p) for p in patterns)


def read_spaces(
    env: ParallelEnv[str, Any, Any], groups: Mapping[str, Sequence[str]] | None = None
) -> EnvironmentSpaces:
    """Agents, spaces and groups of an environment.

    Args:
        env: A parallel environment; it need not have been reset.
        groups: Group id to agent ids, overriding the default rule.

    Raises:
        EnvironmentLoadError: it does not say its agents or spaces before the first reset.
        SpaceError: a kind of space that is not served.
        ConfigError: `groups` does not fit the agents.
    """
    agents = []
    try:
        ids = list(env.possible_agents)
        spaces = [(a, env.observation_space(a), env.action_space(a)) for a in ids]
    except Exception as exc:
        raise EnvironmentLoadError(
            f"environment {env}: reading its agents and spaces raised {describe(exc)}; "
            "it must know possible_agents and their spaces before reset"
        ) from exc
    for agent, observation, action in spaces:
        agents.append(
            AgentSpec(
                str(agent),
                from_gymnasium(observation, f"observation of agent {agent!r}"),
                from_gymnasium(action, f"action of agent {agent!r}"),
            )
        )
    check_served(agents)
    return EnvironmentSpaces.build(agents, groups)


def describe(exc: BaseException) -> str:
    """Type and message of an exception on one line, at most 500 characters."""
    return f"{type(exc).__name__}: {' '.join(str(exc).split())}".removesuffix(": ")[:500]


def _function(entry_point: str) -> Callable[..., Any]:
    if not _ENTRY_POINT.fullmatch(entry_point):
        raise EnvironmentLoadError(f"environment {entry_point!r}: expected package.module or package.module:function")
    name, _, attribute = entry_point.partition(":")
    attribute = attribute or DEFAULT_FUNCTION
    try:
        module = importlib.import_module(name)
    except Exception as exc:  # the module's own code may raise anything
        raise EnvironmentLoadError(
            f"environment {entry_point}: {_import_reason(name, exc)}; install its package here, or correct the name"
        ) from exc
    function = getattr(module, attribute, None)
    if not callable(function):
        raise EnvironmentLoadError(_no_function(entry_point, module, attribute))
    return function  # type: ignore[no-any-return]


def _import_reason(name: str, exc: Exception) -> str:
    """Which part of the name is missing, or what the module itself stumbled over."""
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        if name == exc.name or name.startswith(exc.name + "."):
            parent = exc.name.rpartition(".")[0]
            return f"no module {exc.name!r}" + (f" in package {parent!r}" if parent else " is installed")
        return f"module {name!r} needs {exc.name!r}, which is not installed"
    return f"importing {name!r} raised {describe(exc)}"


def _no_function(entry_point: str, module: types.ModuleType, attribute: str) -> str:
    functions = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
    close = difflib.get_close_matches(attribute, functions, n=1)
    hint = f"; did you mean {module.__name__}:{close[0]}?" if close else "; name one as package.module:function"
    return f"environment {entry_point}: module {module.__name__!r} has no function {attribute!r}{hint}"


def _keyword_hint(function: Callable[..., Any], config: Mapping[str, Any]) -> str:
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    unknown = [k for k in config if k not in known]
    if not unknown or not known:
        return ""
    close = difflib.get_close_matches(unknown[0], known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (it takes {', '.join(known)})"


def _check_parallel(env: object, entry_point: str) -> None:
    if hasattr(env, "agent_iter"):
        raise EnvironmentLoadError(
            f"environment {entry_point}: gives an AEC environment, expected a parallel one; "
            "name its parallel_env, or wrap it by pettingzoo.utils.conversions.aec_to_parallel"
        )
    missing = [name for name in _PARALLEL_API if not hasattr(env, name)]
    if missing:
        raise EnvironmentLoadError(
            f"environment {entry_point}: gives {type(env).__name__} without {', '.join(missing)}, expected a "
            "PettingZoo parallel environment"
        )
