"""Plays an environment at random, in the way that training steps it, and notes what happens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from covey.envs.outside_bounds import OutsideBounds
from covey.envs.random_actions import random_actions, unmasked_actions
from covey.envs.slots import Fault, Slots
from covey.envs.zero_sum import is_zero_sum
from covey.rows import MAX_FLOAT32, Active, is_number
from covey.spaces import EnvironmentSpaces, leaf_arrays
from covey.wire.limits import MAX_REWARD

MAX_FAULTS = 3
"""How often an environment may raise before it is not tried any longer."""


@dataclass
class Timed:
    """How fast an environment is.

    Attributes:
        copies: How many of them were stepped together.
        steps: Env steps made, those of all copies.
        step_s: Seconds that they took.
    """

    copies: int = 1
    steps: int = 0
    step_s: float = 0.0

    @property
    def steps_per_s(self) -> float:
        """Env steps per second of all copies together on one core; 0 if no step was made."""
        return self.steps / self.step_s if self.steps else 0.0


@dataclass
class Behaviour:
    """What an environment did while it was played at random.

    Attributes:
        steps: Env steps made.
        timed: How fast steps were, without drawing actions and without resets.
        episode_lengths: Env steps of each episode that ended.
        most_acting: The most agents that acted in one step.
        waits: Whether a living agent did not act in a step.
        dies: Whether an agent ended before its episode did.
        appears_later: Whether an agent appeared that was not there at reset.
        restricts: Whether a mask forbade an action.
        forces: Whether the environment took an agent's action itself.
        not_finite: What nothing can learn from, as it is NaN, infinite or too large: the first, such as "reward of
            agent 'x'"; empty if there was none.
        outside: Of each agent with observations outside of their space a sentence, with the first one.
        faults: What the environment raised, one line each.
        zero_sum: Whether the agents' returns cancelled in every episode that ended.
    """

    steps: int = 0
    timed: Timed = field(default_factory=Timed)
    episode_lengths: list[int] = field(default_factory=list)
    most_acting: int = 0
    waits: bool = False
    dies: bool = False
    appears_later: bool = False
    restricts: bool = False
    forces: bool = False
    not_finite: str = ""
    outside: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    zero_sum: bool = False


def time_copies(slots: Slots, spaces: EnvironmentSpaces, calls: int, seed: int) -> Timed:
    """Step all copies of an environment together with random legal actions, and measure how fast they are.

    Args:
        slots: Of the environment; closed here.
        spaces: Spaces of the environment.
        calls: Of `step`; fewer if copies raise too often.
        seed: Seeds the actions and the episodes.
    """
    rng = np.random.default_rng(seed)
    timed = Timed(copies=slots.count)
    masked = any(group.masked for group in spaces.groups)
    everybody = list(range(slots.count))
    due, faults = set(everybody), list[Fault]()
    for call in range(calls):
        if due:
            faults += slots.reset(list(due), [seed + slots.count * call + s for s in due])
        if len(faults) >= MAX_FAULTS:
            break
        if masked:
            actions = random_actions(slots, spaces, rng, everybody)
        else:  # drawn in no time, so that the environment's numbers stay in the processor's cache
            actions = [unmasked_actions(g.action, rng, (slots.count, len(g))) for g in spaces.groups]
        began = time.perf_counter()
        raised = slots.step(everybody, actions)
        timed.step_s += time.perf_counter() - began
        timed.steps += slots.count
        faults += raised
        due = {s for s in everybody if not slots.arrays.living[s].any()} | {f.slot for f in raised}
    slots.close()
    return timed


def play_at_random(slots: Slots, spaces: EnvironmentSpaces, steps: int, seed: int) -> Behaviour:
    """Play the first environment for `steps` env steps with random legal actions, and note what happens.

    Args:
        slots: Of the environment.
        spaces: Spaces of the environment.
        steps: Env steps to make, unless the environment raises too often.
        seed: Seeds the actions; episode i is reset with seed + i.
    """
    rng = np.random.default_rng(seed)
    seen = Behaviour()
    bounds = OutsideBounds(spaces)
    living = slots.arrays.living[0]
    episode = length = 0
    running = False
    known = living > 0  # agents that were there in this episode
    earned = np.zeros(len(living))  # the agents' returns in this episode
    returns: list[NDArray[np.float64]] = []
    while seen.steps < steps and len(seen.faults) < MAX_FAULTS:
        if not running:
            length = 0
            faults = slots.reset([0], [seed + episode])
            episode += 1
            known = living > 0
            earned = np.zeros(len(living))
            if not faults and not known.any():
                seen.faults.append("no agent is there after reset")
                continue
        else:
            actions = random_actions(slots, spaces, rng)
            before = living > 0
            began = time.perf_counter()
            faults = slots.step([0], actions)
            if not faults:
                seen.timed.step_s += time.perf_counter() - began
                seen.timed.steps += 1
                seen.steps += 1
                length += 1
                seen.dies = seen.dies or bool(living.any() and (before & (living == 0)).any())
                seen.appears_later = seen.appears_later or bool(((living > 0) & ~known).any())
                known |= living > 0
                earned += slots.arrays.reward[0]
        running = not faults and bool(living.any())
        if faults:
            seen.faults.append(faults[0].message)
            continue
        _watch(slots, spaces, seen)
        seen.outside += bounds.look(slots.arrays)
        if not running:
            seen.episode_lengths.append(length)
            returns.append(earned)
    seen.zero_sum = bool(returns) and is_zero_sum(np.array(returns))
    slots.close()
    return seen


def _watch(slots: Slots, spaces: EnvironmentSpaces, seen: Behaviour) -> None:
    """Update the notes about an environment's behaviour by what it shows after a reset or step."""
    arrays = slots.arrays
    present = arrays.present[0]
    seen.most_acting = max(seen.most_acting, int(np.count_nonzero(present)))
    seen.waits = seen.waits or bool(((arrays.living[0] > 0) & (present == Active.ABSENT)).any())
    seen.forces = seen.forces or bool((present == Active.FORCED).any())
    p = 0
    for g, group in enumerate(spaces.groups):
        mask = arrays.mask[g]
        for n, agent in enumerate(group.agents):
            if mask is not None and present[p]:
                seen.restricts = seen.restricts or not mask[0, n].all()
            shown = leaf_arrays(group.observation, arrays.observation[g][0, n])
            for what, value, most in (
                *(("observation", part, MAX_FLOAT32) for part in shown),
                ("reward", arrays.reward[0, p], MAX_REWARD),
            ):
                if not seen.not_finite and not is_number(value, most).all():
                    seen.not_finite = f"{what} of agent {spaces.agents[agent].agent_id!r}"
            p += 1
