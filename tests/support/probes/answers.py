"""What is known about each function of `tests.support.probes.simultaneous` and `tests.support.probes.asynchronous`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

from tests.support.probes.asynchronous import PLAYERS
from tests.support.probes.configs import GAMMA
from tests.support.probes.errors import Known, Seen, Wanted
from tests.support.probes.simultaneous import AGENTS, closeness


def seen(*rows: Seen) -> Callable[[str], Sequence[Seen]]:
    """What may be seen, whatever the kind of action."""
    return lambda kind: rows


NOTHING = seen((0.0, 0.0))
COINS = seen(*product((0.0, 1.0), repeat=2))
PHASES = seen((0.0, 0.0), (1.0, 1.0))


def anything(kind: str) -> Sequence[Seen]:
    """As `tests.support.probes.simultaneous.observed_policy` shows."""
    return tuple(product((0.1, 0.5, 0.9) if kind == "Box" else (0.0, 1.0), repeat=2))


def fixed(kind: str) -> Seen:
    """As `tests.support.probes.simultaneous.fixed_policy` wants."""
    return (0.7, 0.3) if kind == "Box" else (1.0, 0.0)


def scaled(kind: str, seen: float) -> float:
    """What is wanted where that is to be repeated: what is seen, in the inside of a Box."""
    return 0.25 + 0.5 * seen if kind == "Box" else seen


def corners(table: tuple[float, float, float, float], a: float, b: float) -> float:
    """Linear between what 00, 01, 10 and 11 give."""
    return (1 - a) * ((1 - b) * table[0] + b * table[1]) + a * ((1 - b) * table[2] + b * table[3])


def mixed_wanted(kind: str) -> Wanted:
    """As `tests.support.probes.simultaneous.mixed_kinds` wants."""
    other = "Discrete" if kind == "Box" else "Box"
    return lambda s: (scaled(kind, s[0]), scaled(other, s[1]))


SIMPLE = (
    Known("constant_reward", NOTHING, lambda kind: lambda s, a: (1.0, -0.5)),
    Known("observed_reward", COINS, lambda kind: lambda s, a: (2 * s[0] - 1, 1 - 2 * s[1])),
    Known("discounted_reward", PHASES, lambda kind: lambda s, a: (1.0, -0.5) if s[0] else (GAMMA * 1.0, GAMMA * -0.5)),
    Known(
        "fixed_policy",
        NOTHING,
        lambda kind: lambda s, a: (closeness(a[0], fixed(kind)[0]), closeness(a[1], fixed(kind)[1])),
        lambda kind: lambda s: fixed(kind),
        steps=600,
    ),
    Known(
        "observed_policy",
        anything,
        lambda kind: lambda s, a: (closeness(a[0], s[0]), closeness(a[1], 1 - s[1])),
        lambda kind: lambda s: (s[0], 1 - s[1]),
        box_tolerance=0.2,
        steps=700,
    ),
    Known(
        "joint_policy",
        NOTHING,
        lambda kind: lambda s, a: (corners((3, 0, 1, 2), *a), corners((1, 3, 0, 2), *a)),
        lambda kind: lambda s: (1.0, 1.0),
        box_tolerance=0.4,
        steps=600,
    ),
)
"""A value, one that depends on what is seen, a discounted one; a policy, one that depends on what is seen, two that
depend on each other."""

ENDS = (
    Known(
        "episode_end",
        COINS,
        # Seen 0, 1, 0, 1 ...: 1 + gamma^2 + gamma^4 ..., and gamma times that from 1 on.
        lambda kind: lambda s, a: (1 / (1 - GAMMA), (GAMMA if s[1] else 1) / (1 - GAMMA**2)),
        config={"truncated": True},
        steps=400,
    ),
    Known("episode_end", COINS, lambda kind: lambda s, a: (1.0, 1 - s[1]), config={"truncated": False}),
    Known(
        "early_death",
        NOTHING,
        lambda kind: lambda s, a: (1 / (1 - GAMMA), closeness(a[1], 1.0)),
        lambda kind: lambda s: (None, 1.0),
        steps=500,
    ),
)

MIXED = Known(
    "mixed_kinds",
    COINS,
    lambda kind: lambda s, a: tuple(closeness(x, w or 0.0) for x, w in zip(a, mixed_wanted(kind)(s), strict=True)),
    mixed_wanted,
    box_tolerance=0.15,
    steps=600,
)

TEAM = Known(
    "team",
    COINS,
    lambda kind: lambda s, a: (closeness(a[0], scaled(kind, s[0])), closeness(a[1], scaled(kind, s[1])) - 1),
    lambda kind: lambda s: (scaled(kind, s[0]), scaled(kind, s[1])),
    box_tolerance=0.2,
    steps=600,
    algorithm={"share_parameters": True},
    agents=("team_0", "team_1"),
)
TEAM_APART = replace(TEAM, algorithm={"share_parameters": False}, steps=900)
TEAM_INDICATED = replace(TEAM, algorithm={"share_parameters": True, "agent_indicator": True})
# One value for two agents of which one gets 1 less, by critics that cannot tell which of them they judge.
TEAM_UNTOLD = replace(TEAM, values=lambda kind: lambda s, a: (0.5, 0.5), steps=1600)

TWINS = Known(
    "twins",
    NOTHING,
    lambda kind: lambda s, a: (closeness(a[0], 1.0), 0.5 * closeness(a[1], 0.0)),
    lambda kind: lambda s: (1.0, 0.0),
    box_tolerance=0.2,
    steps=600,
    algorithm={"share_parameters": True, "agent_indicator": True},
    agents=("twin_0", "twin_1"),
)


def masks(in_infos: bool, told: bool) -> Known:
    """What is legal is known only when the time comes.

    Args:
        in_infos: Whether masks are in infos.
        told: Whether critics read what is done; otherwise what is seen is worth the mean of the best.
    """
    second = 0.5 * 2 + 0.5 * 1

    def known(s: Seen, a: Seen) -> tuple[float, ...]:
        first = (2 * a[0] if told else 2) + GAMMA * second, (2 * a[1] if told else 2) + GAMMA * 2
        return first if not s[0] else (2 * a[0] if told else second, 2 * a[1] if told else 2.0)

    return Known(
        "masks",
        PHASES,
        lambda kind: known,
        lambda kind: lambda s: (0.5 if s[0] else 1.0, 1.0),
        config={"in_infos": in_infos},
        steps=900,
        tolerance=0.2,
        masked=("agent_0",),
    )


def forced(paid: float, told: bool) -> Known:
    """Forced or not is known only when the time comes.

    Args:
        paid: For what is forced.
        told: Whether critics read what is done, which is then worth what it brings (`paid` should be 0, as for doing
            the same freely); otherwise what is seen is worth the mean.
    """
    second = 0.5 * paid + 0.5 * 0.6

    def known(s: Seen, a: Seen) -> tuple[float, ...]:
        free = GAMMA * 0.6 if not s[1] else 0.6 * (closeness(a[1], 1.0) if told else 1.0)
        if not s[0]:
            return GAMMA * second, free
        return 0.6 * closeness(a[0], 1.0) if told else second, free

    return Known(
        "forced",
        PHASES,
        lambda kind: known,
        lambda kind: lambda s: (1.0, 1.0) if s[0] else (None, None),
        box_tolerance=0.15,
        config={"paid": paid},
        steps=600 if told else 1100,
        # What comes at the second step is news at the first one, where it must not drown what can be learned.
        algorithm={} if told else {"gae_lambda": 0.0},
    )


def rhythm_values(s: Seen, a: Seen) -> tuple[float, ...]:
    """The agent is paid in 2 steps for each decision, over and over; the other one in 3 steps, and in one more."""
    for_ever = 2 / (1 - GAMMA**2)
    last = closeness(a[1], 0.0)
    return 2 * closeness(a[0], 1.0) + GAMMA**2 * for_ever, last if s[1] else 3 * closeness(a[1], 1.0) + GAMMA**3 * 1.0


RHYTHMS = Known(
    "tests.support.probes.asynchronous:rhythms",
    # What the other agent sees where it waits is what it saw when it acted.
    seen((0.0, 0.0), (0.0, 1.0)),
    lambda kind: rhythm_values,
    lambda kind: lambda s: (1.0, 1 - s[1]),
    steps=1000,
    tolerance=0.3,
    box_tolerance=0.3,
    acting=lambda s: (("other_agent_0",),) if s[1] else (AGENTS, ("agent_0",)),
)


def turn_values(s: Seen, a: Seen) -> tuple[float, ...]:
    """Each player's own decision, and 0.5 where the other one's follows; then the player's second one."""
    first, second = s
    return (
        closeness(a[0], float(first < 0.5)) + 0.5 + (GAMMA**2 * 1.5 if first < 0.5 else 0.0),
        closeness(a[1], float(second < 0.5)) + (0.5 + GAMMA**2 * 1.0 if second < 0.5 else 0.0),
    )


TURNS = Known(
    "tests.support.probes.asynchronous:turns",
    # In turn 1, 2 and 3 the player that waits has what it saw in the turn before; in turn 0 nothing was seen yet.
    seen((0.0, 0.25), (0.75, 0.25), (0.75, 1.0)),
    lambda kind: turn_values,
    lambda kind: lambda s: tuple(float(x < 0.5) for x in s),
    steps=1200,
    tolerance=0.2,
    box_tolerance=0.2,
    agents=PLAYERS,
    acting=lambda s: (("player_0",),) if s == (0.75, 0.25) else (("player_1",),),
)
