"""Environments so small that their values and best policies are known; agents act all at once.

Configurations name them `tests.support.probes.simultaneous:<function>`. What an agent did is a number from 0 to 1, its
place in its action space, see `tests.support.probes.environment.place`. Observations are single numbers from 0 to 1 as
well. So one reward serves all kinds of action. Agents that act at different times: `tests.support.probes.asynchronous`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from tests.support.probes.environment import Numbers, Probe, space_of

AGENTS = ("agent_0", "other_agent_0")


def constant_reward(kind: str) -> Probe:
    """Rewards 1 and -0.5, whatever is done: these are the values too."""
    return Probe(both(kind), zero, lambda seen, done: {"agent_0": 1.0, "other_agent_0": -0.5})


def observed_reward(kind: str) -> Probe:
    """An agent that sees 1 gets 1, one that sees 0 gets -1; the other agent the other way round."""
    return Probe(
        both(kind),
        coin,
        lambda seen, done: {"agent_0": 2 * seen["agent_0"] - 1, "other_agent_0": 1 - 2 * seen["other_agent_0"]},
    )


def discounted_reward(kind: str) -> Probe:
    """Two steps, seen as 0 and 1; only the second one is rewarded, with 1 and -0.5: gamma times that is the first's."""
    return Probe(
        both(kind),
        zero,
        lambda seen, done: {"agent_0": seen["agent_0"], "other_agent_0": -0.5 * seen["other_agent_0"]},
        then=lambda before: 1.0,
        ends=dict.fromkeys(AGENTS, 2),
    )


def fixed_policy(kind: str) -> Probe:
    """Always the same is seen and wanted: 1 and 0 of two choices, 0.7 and 0.3 of a Box."""
    wanted = {"agent_0": 1.0 if kind != "Box" else 0.7, "other_agent_0": 0.0 if kind != "Box" else 0.3}
    return Probe(both(kind), zero, lambda seen, done: {a: closeness(done[a], wanted[a]) for a in done})


def observed_policy(kind: str) -> Probe:
    """The agent is to do what it sees, the other one the opposite; in a Box anything may be seen, and is wanted."""

    def reward(seen: Numbers, done: Numbers) -> Numbers:
        wanted = {"agent_0": seen["agent_0"], "other_agent_0": 1 - seen["other_agent_0"]}
        return {a: closeness(done[a], wanted[a]) for a in done}

    return Probe(both(kind), coin if kind != "Box" else anything, reward)


def joint_policy(kind: str) -> Probe:
    """What an agent gets depends on what both do: 3, 0, 1, 2 and 1, 3, 0, 2 for 00, 01, 10, 11, linear between.

    The other agent does best with 1 in any case, and then so does the agent, though the other would like a 0 better.
    """

    def between(table: tuple[float, float, float, float], a: float, b: float) -> float:
        return (1 - a) * ((1 - b) * table[0] + b * table[1]) + a * ((1 - b) * table[2] + b * table[3])

    def reward(seen: Numbers, done: Numbers) -> Numbers:
        a, b = done["agent_0"], done["other_agent_0"]
        return {"agent_0": between((3, 0, 1, 2), a, b), "other_agent_0": between((1, 3, 0, 2), a, b)}

    return Probe(both(kind), zero, reward)


def episode_end(kind: str, truncated: bool) -> Probe:
    """What is seen turns from 0 to 1 and back, and every episode is over after one step: at its end, or cut off.

    The agent gets 1 each time, the other one 1 where it sees 0. If episodes really end there, these are the values;
    if they are cut off, it would have gone on for ever: 1 / (1 - gamma) for the agent.
    """
    return Probe(
        both(kind),
        coin,
        lambda seen, done: {"agent_0": 1.0, "other_agent_0": 1 - seen["other_agent_0"]},
        then=lambda before: 1 - before,
        truncated=AGENTS if truncated else (),
    )


def team(kind: str) -> Probe:
    """Two of a kind, each with an observation of its own, 0 or 1; team_1 gets 1 less than team_0 for the same.

    Each is to repeat what it sees; in a Box, to do 0.25 or 0.75.
    """
    return Probe(
        {"team_0": space_of(kind), "team_1": space_of(kind)},
        coin,
        lambda seen, done: {
            a: closeness(done[a], seen[a] if kind != "Box" else quarter(seen[a])) - (a == "team_1") for a in done
        },
    )


def mixed_kinds(kind: str) -> Probe:
    """One agent chooses from two, counted from 3, and is to repeat what it sees; the other has a Box from -2 to 6.

    In the Box 0 is wanted where 0 is seen, and 4 where 1 is. `kind` is that of agent_0.
    """
    chooser, mover = AGENTS if kind == "Discrete" else AGENTS[::-1]
    spaces = {chooser: gymnasium.spaces.Discrete(2, start=3), mover: gymnasium.spaces.Box(-2.0, 6.0, (1,), np.float32)}

    def reward(seen: Numbers, done: Numbers) -> Numbers:
        wanted = {chooser: seen[chooser], mover: quarter(seen[mover])}
        return {a: closeness(done[a], wanted[a]) for a in done}

    return Probe({a: spaces[a] for a in AGENTS}, coin, reward)


def early_death(kind: str) -> Probe:
    """The other agent's episode ends after one step, for which 1 is wanted; the agent gets 1 for each of three steps.

    The agent is cut off there. Everything seen is 0, as it also is in the rows of an agent that is gone: if these
    counted, they would pull at the value of doing 0.
    """
    return Probe(
        both(kind),
        zero,
        lambda seen, done: {a: 1.0 if a == "agent_0" else closeness(done[a], 1.0) for a in done},
        ends={"agent_0": 3, "other_agent_0": 1},
        truncated=("agent_0",),
    )


def twins(kind: str) -> Probe:
    """Two of a kind that always see the same; one is to do 1, the other one 0. It gets half as much."""

    def reward(seen: Numbers, done: Numbers) -> Numbers:
        return {"twin_0": closeness(done["twin_0"], 1.0), "twin_1": 0.5 * closeness(done["twin_1"], 0.0)}

    return Probe({"twin_0": space_of(kind), "twin_1": space_of(kind)}, zero, reward)


def masks(kind: str, in_infos: bool) -> Probe:
    """Two steps, seen as 0 and 1; an agent gets twice the place of what it does.

    In every second episode agent_0 may not do 1 where 1 is seen, and 0.5 is the best that it may do. The other agent
    may do everything.
    """
    space = gymnasium.spaces.Discrete(3) if kind == "Discrete" else space_of(kind)
    return Probe(
        {"agent_0": space, "other_agent_0": space_of(kind)},
        zero,
        lambda seen, done: {a: 2 * x for a, x in done.items()},
        then=lambda before: 1.0,
        ends=dict.fromkeys(AGENTS, 2),
        masked=("agent_0",),
        masks_in_infos=in_infos,
    )


def forced(kind: str, paid: float) -> Probe:
    """Two steps, seen as 0 and 1. At the second one 0.6 is paid for doing 1, nothing for 0.

    In every second episode the environment makes the agent do 0 there, and pays `paid`; never the other agent.
    """
    return Probe(
        both(kind),
        zero,
        lambda seen, done: {a: 0.6 * seen[a] * closeness(done[a], 1.0) for a in done},
        then=lambda before: 1.0,
        ends=dict.fromkeys(AGENTS, 2),
        forced=("agent_0",),
        forced_reward=paid,
    )


def both(kind: str) -> dict[str, gymnasium.Space[Any]]:
    """The same action space for both agents."""
    return {a: space_of(kind) for a in AGENTS}


def closeness(done: float, wanted: float) -> float:
    """1 where exactly the wanted thing is done, less elsewhere: 0 for the wrong one of two choices."""
    return 1 - (done - wanted) ** 2


def quarter(seen: float) -> float:
    """0.25 for 0, 0.75 for 1: wanted in the inside of a Box."""
    return 0.25 + 0.5 * seen


def zero(rng: np.random.Generator) -> float:
    del rng
    return 0.0


def coin(rng: np.random.Generator) -> float:
    return float(rng.integers(2))


def anything(rng: np.random.Generator) -> float:
    return float(rng.random())
