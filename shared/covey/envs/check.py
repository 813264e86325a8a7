"""Tries an environment out: what it is, whether it keeps PettingZoo's rules, and whether covey can train in it."""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from covey.envs.building import build_slots
from covey.envs.loading import EnvironmentFactory
from covey.envs.mpe import faster
from covey.envs.reading import agent_spec, declared_spaces, grouping_warnings, read_spaces
from covey.envs.repeats import ignored_seed
from covey.envs.slots import BatchedEnvironment, batch_reset, describe
from covey.envs.trial import MAX_FAULTS, Behaviour, play_at_random, time_copies
from covey.errors import EnvironmentLoadError, SpaceError
from covey.spaces import Box, Discrete, EnvironmentSpaces, action_bounds, leaves

API_TEST_CYCLES = 100
"""Cycles of PettingZoo's own API test, each of which makes the same checks."""

TIMED_COPIES = 64
"""Copies as which a batched environment is timed: what one of it takes says nothing about how it trains."""

TIMED_CALLS = 100
"""Calls of step in which it is timed."""

MOST_OUTSIDE = 3
"""Of observations outside of their spaces the report shows so many sentences."""


@dataclass(frozen=True)
class EnvironmentReport:
    """What trying out an environment has shown.

    Attributes:
        entry_point: The environment's name, "package.module:function".
        interface: "parallel", "aec" or "batched".
        declared: Observation and action space by agent, as Gymnasium writes them.
        api_test: "passed", "failed: ..." with PettingZoo's message, or "not run: ..." with the reason.
        api_warnings: What PettingZoo's test warned of.
        spaces: Agents, spaces and groups; None if some spaces are not served.
        behaviour: What happened when it was played at random; None if some spaces are not served.
        will: What covey will do with it, a sentence each.
        cannot: Why covey cannot train in it, a sentence each; empty if it can.
    """

    entry_point: str
    interface: str
    declared: Mapping[str, tuple[str, str]]
    api_test: str
    api_warnings: tuple[str, ...]
    spaces: EnvironmentSpaces | None
    behaviour: Behaviour | None
    will: tuple[str, ...]
    cannot: tuple[str, ...]

    @property
    def kind(self) -> str:
        """How agents act: simultaneous, turn-based (one in a step), asynchronous (some in a step), or unknown."""
        if self.spaces is None or self.behaviour is None:
            return "unknown"
        if not self.spaces.asynchronous:
            return "simultaneous"
        return "turn-based" if self.behaviour.most_acting <= 1 else "asynchronous"

    @property
    def trainable(self) -> bool:
        """Whether covey can train in the environment."""
        return not self.cannot


def check_environment(
    factory: EnvironmentFactory,
    steps: int,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
    ignored: Sequence[str] = (),
    frame_stack: int = 1,
    state: bool = False,
) -> EnvironmentReport:
    """Play an environment at random, run PettingZoo's own test, and say what covey can do with it.

    Args:
        factory: Builds the environment.
        steps: Env steps to play.
        seed: Seed of the episodes and actions; PettingZoo's test draws its own.
        groups: Agent ids by group id, as a configuration may give them; None: groups by the agents' names.
        ignored: Dotted names of parts of observations that are left out, as a configuration may give them.
        frame_stack: How many observations networks are to read together, as a configuration may say.
        state: Whether rows are to hold the state of the whole environment, as a configuration may say.

    Raises:
        EnvironmentLoadError: it cannot be built, does not know its agents before reset, or has agents that wait only
            after its first episode.
    """
    with _silence():
        env = factory()
        try:
            declared = declared_spaces(env)
            cannot = _unserved(declared, ignored)
            spaces = None
            if not cannot:
                try:
                    spaces = read_spaces(env, groups, ignored, frame_stack, state)
                except (SpaceError, EnvironmentLoadError) as exc:  # training refuses it by the same words
                    cannot.append(str(exc))
        finally:
            env.close()
        behaviour = play_at_random(build_slots(factory, spaces, 1), spaces, steps, seed) if spaces else None
        if behaviour and spaces and factory.batched:
            behaviour.timed = time_copies(build_slots(factory, spaces, TIMED_COPIES), spaces, TIMED_CALLS, seed)
        not_repeated = ignored_seed(factory, spaces, seed) if spaces else ""
        interface = "batched" if factory.batched else "aec" if hasattr(env, "aec") else "parallel"
        api_test, api_warnings = _api_test(factory, interface, waits=bool(spaces and spaces.asynchronous))
    will: list[str] = []
    if factory.adapted:
        into = "covey's batched interface" if factory.batched else "PettingZoo"
        will.append(f"interface: it is {factory.adapted}, adapted to {into}")
    if factory.batched and batch_reset(cast("BatchedEnvironment", env)):
        will.append(
            "reset_batch: training draws the episodes that begin together by it, all at once; evaluation and "
            "deterministic runs begin each by reset"
        )
    if spaces and behaviour:
        will += _plans(spaces, behaviour, steps, not_repeated)
        if arrays := faster(factory.entry_point, factory.config):
            will.append(f"speed: {arrays}")
        cannot += _obstacles(spaces, behaviour)
    return EnvironmentReport(
        entry_point=factory.entry_point,
        interface=interface,
        declared={a: (str(observation), str(action)) for a, (observation, action) in declared.items()},
        api_test=api_test,
        api_warnings=tuple(api_warnings),
        spaces=spaces,
        behaviour=behaviour,
        will=tuple(will),
        cannot=tuple(cannot),
    )


def _unserved(declared: Mapping[str, tuple[Any, Any]], ignored: Sequence[str]) -> list[str]:
    """Return a sentence for each agent with a space that covey cannot train with."""
    sentences = []
    for agent, (observation, action) in declared.items():
        try:
            agent_spec(agent, observation, action, ignored)
        except SpaceError as exc:
            sentences.append(str(exc))
    return sentences


def _obstacles(spaces: EnvironmentSpaces, seen: Behaviour) -> list[str]:
    """Return a sentence for each thing the environment did that makes training in it impossible."""
    sentences = []
    if len(seen.faults) >= MAX_FAULTS:
        sentences.append(f"raised {len(seen.faults)} times in {seen.steps} env steps: {seen.faults[0]}; repair it")
    if seen.not_finite:
        sentences.append(f"{seen.not_finite} is infinite, no number, or too large to learn from; repair it")
    return sentences


def _plans(spaces: EnvironmentSpaces, seen: Behaviour, steps: int, not_repeated: str) -> Iterator[str]:
    """Sentences about what covey will do with the environment; `not_repeated` is what `ignored_seed` says."""
    boxes = ((a, leaf.space) for a in spaces.agents for leaf in leaves(a.action) if isinstance(leaf.space, Box))
    whole = next(((agent, box) for agent, box in boxes if np.dtype(box.dtype).kind != "f"), None)
    other = next((a for a in spaces.agents if not isinstance(a.action, Discrete)), None)
    boxes_alone = all(isinstance(leaf.space, Box) for agent in spaces.agents for leaf in leaves(agent.action))
    values = "" if other or spaces.asynchronous or seen.zero_sum else ", PQN, QMIX, VDN"
    teams = ", MASAC" if boxes_alone else values
    if whole is None:
        yield f"algorithms: IPPO, MAPPO, MADDPG, MATD3{teams} fit"
    else:
        yield (
            f"algorithms: MADDPG, MATD3 fit; IPPO and MAPPO want floating-point numbers in a Box of actions, those "
            f"of {whole[0].agent_id!r} are {whole[1].dtype}"
        )
    if other:
        yield f"algorithms: PQN, QMIX and VDN want Discrete actions, those of {other.agent_id!r} are none"
    elif spaces.asynchronous:
        yield "algorithms: PQN, QMIX and VDN want all agents to act in every env step"
    elif seen.zero_sum:
        yield "algorithms: PQN, QMIX and VDN learn the sum of all agents' rewards, which is zero here"
    for group in spaces.groups:
        if len(group) > 1:
            ids = ", ".join(spaces.agents[a].agent_id for a in group.agents)
            yield f"grouping: {ids} can share a policy, group {group.group_id!r}"
    yield from (f"grouping: {warning}" for warning in grouping_warnings(spaces.agents))
    yield from _alike(spaces)
    if spaces.asynchronous:
        yield (
            "waiting: rewards are summed until an agent acts again, and its open decision is carried from fragment to "
            "fragment in lead-in rows"
        )
    if spaces.frame_stack > 1:
        yield from _stacks(spaces)
    if spaces.state is not None:
        yield (
            f"state: {spaces.state.dtype} of {_shape(spaces.state.shape)}, is sent and kept with every env step, for "
            "algorithms that read it"
        )
    if any(g.masked for g in spaces.groups):
        yield "masks: illegal actions are never chosen, in acting, in targets and in learning"
    if seen.forces:
        yield "forced actions: the environment's own actions are stored, and left out of the policy's loss"
    for group in spaces.groups:
        for box in (leaf.space for leaf in leaves(group.action)):
            if not isinstance(box, Box) or np.isfinite([box.low, box.high]).all():
                continue
            ends = zip(*action_bounds(box), box.low, box.high, strict=True)
            open_ended = {(low, high) for low, high, *own in ends if not np.isfinite(own).all()}
            intervals = " and ".join(f"[{low:g}, {high:g}]" for low, high in sorted(open_ended)[:4])
            yield f"bounds: where actions of group {group.group_id!r} have no bound, policies stay within {intervals}"
    for sentence in seen.outside[:MOST_OUTSIDE]:
        yield f"bounds: {sentence}; it is used as it is, so correct the space or the environment"
    if (more := len(seen.outside) - MOST_OUTSIDE) > 0:
        yield f"bounds: {more} further sentences like these are in `covey check-env --json`, under `outside`"
    if seen.zero_sum:
        yield (
            "opponents: the agents' returns sum to zero in every episode, so each side is evaluated against random and "
            "the elite of the generation before, where fitness.opponents names nobody; in training a member's policies "
            "play against each other, and one that both sides share against itself"
        )
    if not_repeated:
        yield not_repeated
    if not seen.episode_lengths:
        yield f"episodes: none ended within {steps} env steps, so set training.eval_steps"


def _stacks(spaces: EnvironmentSpaces) -> Iterator[str]:
    """Yield a sentence for each kind of observation about what networks read of its stacks."""
    for seen, read in dict.fromkeys((g.observation, g.stacked) for g in spaces.groups):
        shapes = [
            f"{f'{one.name} ' if one.name else ''}{_shape(one.space.shape)} as {_shape(many.space.shape)}"
            for one, many in zip(leaves(seen), leaves(read), strict=True)
        ]
        yield (
            f"frames: networks read the last {spaces.frame_stack} observations together, {', '.join(shapes)}; rows and "
            "replay hold each once"
        )


def _shape(shape: tuple[int, ...]) -> str:
    """Write a shape for people: "84 x 84 x 3", or "one number"."""
    return " x ".join(map(str, shape)) or "one number"


def _alike(spaces: EnvironmentSpaces) -> Iterator[str]:
    """Yield a sentence for groups that have equal spaces but different names, and so could be one."""
    by_kind: dict[tuple[object, ...], list[str]] = {}
    for group in spaces.groups:
        by_kind.setdefault((group.observation, group.action, group.masked), []).append(group.group_id)
    for groups in by_kind.values():
        if len(groups) > 1:
            yield (
                f"grouping: {', '.join(groups)} have equal spaces but different names, so they share nothing; "
                "environment.groups can join them"
            )


def _api_test(factory: EnvironmentFactory, interface: str, *, waits: bool) -> tuple[str, list[str]]:
    """Run PettingZoo's own API test; returns "passed", "failed: ..." or "not run: ...", and its warnings."""
    if interface == "batched":
        return "not run: PettingZoo has none for batched environments", []
    if interface == "parallel" and waits:
        return "not run: PettingZoo's wants all agents of a parallel environment to act in every step", []
    from pettingzoo.test import api_test, parallel_api_test

    env: Any = factory()
    verdict = "passed"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if interface == "aec":
                api_test(env.aec, num_cycles=API_TEST_CYCLES)
            else:
                parallel_api_test(env, num_cycles=API_TEST_CYCLES)
        except Exception as exc:  # assertions, and whatever the environment raises
            # An assertion without a message is reported by its source line.
            frame = traceback.extract_tb(exc.__traceback__)[-1]
            verdict = f"failed: {describe(exc) if str(exc) else f'{type(exc).__name__}: {frame.line}'}"
        finally:
            env.close()
    return verdict, list(dict.fromkeys(" ".join(str(w.message).split()) for w in _relevant(caught)))


def _relevant(caught: Sequence[warnings.WarningMessage]) -> Iterator[warnings.WarningMessage]:
    """Yield warnings about the environment itself, without those about deprecated functions of its libraries."""
    for w in caught:
        if not issubclass(w.category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
            yield w


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what environments and tests print, warn and log, so that only the report is seen."""
    before = logging.root.manager.disable
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
