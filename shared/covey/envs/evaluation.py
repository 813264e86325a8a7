"""The environment of evaluations, where it is built with other arguments than that of training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from covey.envs.loading import NUM_ENVS, EnvironmentFactory, load_environment
from covey.envs.reading import read_spaces
from covey.errors import EnvironmentLoadError, SpaceError
from covey.spaces import EnvironmentSpaces


def load_evaluation(
    training: EnvironmentFactory,
    spaces: EnvironmentSpaces,
    config: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]] | None,
    ignored: Collection[str] = (),
    frame_stack: int = 1,
    state: bool = False,
) -> EnvironmentFactory:
    """Find the environment of evaluations: that of training, built with other arguments.

    Args:
        training: Builds the environment of training.
        spaces: Its agents and spaces, which both must have.
        config: All keyword arguments of its function in evaluations.
        groups: Agent ids by group id, if the configuration gives them.
        ignored: Dotted names of parts of observations that are left out.
        frame_stack: How many of their last observations agents' networks read.
        state: Whether rows hold the state of the whole environment.

    Raises:
        EnvironmentLoadError: it cannot be built with these arguments.
        SpaceError: its agents or spaces are others.
    """
    if training.batched and NUM_ENVS in config:
        raise EnvironmentLoadError(
            f"environment {training.entry_point}: environment.evaluation sets num_envs, expected it to be left out as "
            "in training; environment.num_envs says how many copies there are"
        )
    make = load_environment(training.entry_point, config)
    try:
        env = make()
    except EnvironmentLoadError as exc:
        raise EnvironmentLoadError(f"{exc} (built with environment.evaluation on top of environment.config)") from exc
    try:
        found = read_spaces(env, groups, ignored, frame_stack, state)
    finally:
        env.close()
    if found != spaces:
        raise SpaceError(
            f"environment {training.entry_point} with environment.evaluation: {difference(found, spaces)} leave out "
            "what changes agents or spaces"
        )
    return make


def difference(found: EnvironmentSpaces, expected: EnvironmentSpaces) -> str:
    """Name the first difference of spaces from those expected: "agents ['a'], expected ['a', 'b'] as in training;"."""
    if found.agent_ids != expected.agent_ids:
        return f"agents {list(found.agent_ids)}, expected {list(expected.agent_ids)} as in training;"
    for a, b in zip(found.agents, expected.agents, strict=True):
        for what in ("observation", "action"):
            if getattr(a, what) != getattr(b, what):
                space, other = getattr(a, what), getattr(b, what)
                return f"{what} space {space} of agent {a.agent_id!r}, expected {other} as in training;"
        if a.masked != b.masked:
            has = "masks" if a.masked else "no masks"
            return f"{has} for agent {a.agent_id!r}, expected {'masks' if b.masked else 'none'} as in training;"
    if found.state != expected.state:
        return f"state {found.state}, expected {expected.state} as in training;"
    return "agents that act at other times than in training, expected the same;"
