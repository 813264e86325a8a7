"""Finds an environment by its name and builds it, with a one-sentence error for all that can go wrong."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from covey.envs import adapters
from covey.envs.adapters import Adapter, knows_its_spaces, reset_first
from covey.envs.array_watch import WATCHED_COPIES
from covey.envs.found_functions import entry_function
from covey.envs.gymnasium_ids import without_deprecations
from covey.envs.named_agents import with_names
from covey.envs.slots import BatchedEnvironment, describe
from covey.envs.turns import TurnsEnv
from covey.errors import EnvironmentLoadError

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv

KNOWN = "PettingZoo (parallel or AEC), gymnasium, MARLEnv, VMAS or JaxMARL, or a covey.envs.BatchedEnvironment"
"""The interfaces that covey takes, in words."""

NUM_ENVS = "num_envs"
"""The parameter by which a function takes how many copies of an environment to build as one object."""

SHOWN_BY = "SHOWN_BY"
"""What a batched environment's module may name: the entry point of the environment that draws one copy of it."""

_MOVED = "pettingzoo.mpe."  # these environments have become the package mpe2
_PARALLEL_API = ("possible_agents", "observation_space", "action_space", "reset", "step", "close")
_AEC_API = ("possible_agents", "observation_space", "action_space", "reset", "step", "observe")
_BATCHED_API = (*_PARALLEL_API, "asynchronous", "attach")

MakeEnv = Callable[[], "ParallelEnv[str, Any, Any]"]
"""Builds a fresh copy of one environment."""

logger = logging.getLogger("covey.envs")


@dataclass
class _Found:
    """What a factory's first environment was: looked at once, since building one may take long.

    Attributes:
        batched: Whether it steps all its copies itself; None: not known yet.
        takes_count: Whether its function is told the number of copies.
        adapter: What makes a known interface of it; None: it has one.
        words: What it is, in words; "" without an adapter.
    """

    batched: bool | None = None
    takes_count: bool = False
    adapter: Adapter | None = None
    words: str = ""


@dataclass(frozen=True)
class EnvironmentFactory:
    """Builds copies of an environment that is known by name, so that other processes can build it too.

    Environments of other interfaces than PettingZoo's are adapted (`covey.envs.adapters`), which the log says once.

    Attributes:
        entry_point: "package.module:function", "package.module", or "package.module:ID" of a gymnasium environment.
        config: Keyword arguments of the function.
    """

    entry_point: str
    config: Mapping[str, Any]
    _found: _Found = field(default_factory=_Found, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return EnvironmentFactory, (self.entry_point, dict(self.config))  # another process looks for itself

    def __call__(self) -> ParallelEnv[str, Any, Any]:
        """Build a copy with the parallel interface: AEC environments are wrapped, batched ones have few copies.

        Raises:
            EnvironmentLoadError: it does not import, the function refuses its arguments or fails, or what it
                returns is no environment of a known interface.
        """
        if self._found.batched is None:
            return cast("ParallelEnv[str, Any, Any]", self._look())
        if self._found.batched:
            return cast("ParallelEnv[str, Any, Any]", self.batch(WATCHED_COPIES))
        return cast("ParallelEnv[str, Any, Any]", self._parallel(self._build(self.config)))

    @property
    def batched(self) -> bool:
        """Whether the environment steps all its copies itself, which the first one built tells.

        Raises:
            EnvironmentLoadError: none can be built.
        """
        if self._found.batched is None:
            self._look().close()
        return bool(self._found.batched)

    @property
    def adapted(self) -> str:
        """What environments of another interface are, in words, once one was built; "" if they need no adapter."""
        return self._found.words

    @property
    def shown_by(self) -> str | None:
        """The entry point of the environment that draws one copy of this batched one; None if its module names none."""
        module = sys.modules.get(getattr(entry_function(self.entry_point), "__module__", ""))
        name = getattr(module, SHOWN_BY, None)
        return name if isinstance(name, str) else None

    def takes(self, keyword: str) -> bool:
        """Whether the function has a parameter of this name, or takes any keyword."""
        try:
            parameters = inspect.signature(entry_function(self.entry_point)).parameters
        except ValueError:  # a builtin without a signature
            return True
        return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def batch(self, num_envs: int) -> BatchedEnvironment:
        """Build `num_envs` copies as one object, of an environment that steps all its copies itself.

        Raises:
            EnvironmentLoadError: as for a single one.
        """
        if self._found.batched is None:
            self._look().close()
        env = self._build({**self.config, NUM_ENVS: num_envs} if self._found.takes_count else self.config)
        return self._as_batched(env, num_envs)

    def _look(self) -> Any:
        """Build the first environment, and find out of what interface it is; returns it in its known form."""
        found, copies = self._found, WATCHED_COPIES
        env = self._build({**self.config, NUM_ENVS: copies}) if self._may_take_count() else None
        if env is not None:
            # A parameter of that name alone says nothing: other interfaces have one too.
            found.takes_count = hasattr(env, "attach") or self._adapts(env, batched=True)
            if not found.takes_count and self._needs_count():
                self._check(env, _BATCHED_API)
            if not found.takes_count:
                close_quietly(env)
                env = None
        if env is None:
            env = self._build(self.config)
            if not found.takes_count and hasattr(env, "attach"):
                raise EnvironmentLoadError(
                    f"environment {self.entry_point} gives {type(env).__name__}, which steps all its copies itself, "
                    f"expected a function that is told how many by its parameter {NUM_ENVS}; leave that out of "
                    f"environment.config, as environment.{NUM_ENVS} says it"
                )
        # What knows its spaces as PettingZoo's environments do is no other package's.
        batched = found.takes_count or (not knows_its_spaces(env) and self._adapts(env, batched=True))
        known = self._as_batched(env, copies) if batched else self._parallel(env)
        found.batched = batched
        return known

    def _may_take_count(self) -> bool:
        """Whether the function has a parameter `num_envs` that the configuration leaves out."""
        return self._count_parameter() is not None

    def _needs_count(self) -> bool:
        """Whether the function cannot be called without `num_envs`."""
        parameter = self._count_parameter()
        return parameter is not None and parameter.default is parameter.empty

    def _count_parameter(self) -> inspect.Parameter | None:
        if NUM_ENVS in self.config:
            return None
        try:
            return inspect.signature(entry_function(self.entry_point)).parameters.get(NUM_ENVS)
        except ValueError:  # a builtin without a signature
            return None

    def _adapts(self, env: Any, *, batched: bool) -> bool:
        """Find the adapter of an environment; whether it makes arrays of it, or else a parallel environment."""
        if (match := adapters.adapter_of(env)) is None:
            return False
        adapter, words = match
        if (adapter.batched is not None) != batched:
            return False
        self._found.adapter, self._found.words = adapter, words
        _tell_adapted(self.entry_point, type(env).__name__, words)
        return True

    def _as_batched(self, env: Any, num_envs: int) -> BatchedEnvironment:
        """An environment that steps its copies itself, adapted if it needs that, and checked."""
        if (adapter := self._found.adapter) is not None and adapter.batched is not None:
            env = self._adapting(adapter.batched, env, num_envs)
        self._check(env, _BATCHED_API)
        if getattr(env, "count", num_envs) != num_envs:
            raise EnvironmentLoadError(
                f"environment {self.entry_point}: count is {env.count} where it is built with num_envs={num_envs}, "
                f"expected {num_envs}; set self.count = num_envs"
            )
        return cast("BatchedEnvironment", env)

    def _parallel(self, env: Any) -> Any:
        """A single environment with the parallel interface and agents that have names."""
        turns = hasattr(env, "agent_iter")
        if not knows_its_spaces(env):
            if self._adapts(env, batched=False):
                assert self._found.adapter is not None and self._found.adapter.parallel is not None
                return with_names(self._adapting(self._found.adapter.parallel, env))
            if has(env, "reset") and has(env, "step"):
                env = reset_first(env)
        self._check(env, _AEC_API if turns else _PARALLEL_API)
        return with_names(TurnsEnv(env) if turns else env)

    def _adapting(self, adapt: Callable[..., Any], env: Any, *arguments: Any) -> Any:
        """Call an adapter; what it raises becomes a sentence about the environment."""
        try:
            with without_deprecations():
                return adapt(env, *arguments)
        except EnvironmentLoadError:
            raise
        except Exception as exc:
            raise EnvironmentLoadError(
                f"environment {self.entry_point} gives {type(env).__name__}, {self._found.words}, but adapting it "
                f"raised {describe(exc)}; repair its package, or wrap it by a function of your own"
            ) from exc

    def _build(self, config: Mapping[str, Any]) -> Any:
        function = entry_function(self.entry_point)
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
            with without_deprecations():
                return function(**config)
        except Exception as exc:
            raise EnvironmentLoadError(
                f"environment {self.entry_point}: building it with {dict(config)} raised {describe(exc)}; "
                "correct environment.config"
            ) from exc

    def _check(self, env: Any, names: Sequence[str]) -> None:
        interface = "the batched interface, covey.envs.BatchedEnvironment" if names is _BATCHED_API else KNOWN
        missing = [name for name in names if not has(env, name)]
        if missing:
            raise EnvironmentLoadError(
                f"environment {self.entry_point} gives {type(env).__name__} without {', '.join(missing)}, expected an "
                f"environment of {interface}; return one from a function of your own"
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
    entry_function(name)
    return EnvironmentFactory(name, dict(config))


def present_name(entry_point: str) -> str:
    """The name under which an environment is found today: those of `pettingzoo.mpe` have become the package mpe2."""
    return "mpe2." + entry_point.removeprefix(_MOVED) if entry_point.startswith(_MOVED) else entry_point


@functools.cache
def _tell_moved(entry_point: str, name: str) -> None:
    logger.warning("environment %s: pettingzoo.mpe has become the package mpe2; taking %s", entry_point, name)


@functools.cache
def _tell_adapted(entry_point: str, kind: str, words: str) -> None:
    logger.info("environment %s gives %s, %s; adapted to PettingZoo", entry_point, kind, words)


def has(env: Any, name: str) -> bool:
    """Whether an object has an attribute; one whose property raises has none."""
    try:
        return hasattr(env, name)
    except Exception:
        return False


def close_quietly(env: Any) -> None:
    """Close an environment that is not needed, whatever it raises."""
    with contextlib.suppress(Exception):
        env.close()


def _keyword_hint(function: Callable[..., Any], config: Mapping[str, Any]) -> str:
    """For a keyword that a function does not have, return a hint: a similar one, or all that it has; else ""."""
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    unknown = [k for k in config if k not in known]
    if not unknown or not known:
        return ""
    close = difflib.get_close_matches(unknown[0], known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (it takes {', '.join(known)})"
