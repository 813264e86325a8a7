"""Steps many copies of an MPE task as arrays: what all the tasks share besides the physics.

Dims: S copies that a call is about, A agents, L landmarks, D numbers that an agent sees, K integers drawn for an
episode; N agents of a group or of a kind. Inside, copies are the last axis; what `covey.envs.arrays` holds has them
first.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.envs.mpe.draws import draw_exactly, draw_together
from covey.envs.mpe.world import Floats, Rows, State, World
from covey.envs.slots import Fault
from covey.spaces import EnvironmentSpaces

Seen = NDArray[np.float32]

MOVES = 5
"""Ways to move: not at all, left, right, down, up; continuous actions have a number for each."""

_X = np.array([0.0, -1.0, 1.0, 0.0, 0.0])
_Y = np.array([0.0, 0.0, 0.0, -1.0, 1.0])


class Task(ABC):
    """Copies of an MPE task that are stepped together, as a `covey.envs.slots.BatchedEnvironment`.

    A subclass says what agents see and what they are rewarded for.

    Args:
        num_envs: How many copies.
        world: The bodies.
        agents: Names of the agents, in the order of the world's bodies.
        kinds: How many agents there are of each kind, one kind after another, and how many numbers each of it sees.
        max_cycles: Env steps of an episode.
        continuous_actions: Whether actions are Box instead of Discrete.
        goals: For each integer that an episode draws first, from how many.
    """

    asynchronous: bool = False

    def __init__(
        self,
        num_envs: int,
        world: World,
        agents: Sequence[str],
        kinds: Sequence[tuple[int, int]],
        max_cycles: int,
        continuous_actions: bool,
        goals: Sequence[int] = (),
    ) -> None:
        self.count = num_envs
        self.possible_agents: Sequence[str] = list(agents)
        self.world = world
        self.arrays: SlotArrays
        self._max_cycles, self._continuous, self._goals = max_cycles, continuous_actions, tuple(goals)
        self._state = world.begin(num_envs, len(goals))
        # What is not written, such as the places of neighbours that do not exist, stays zero.
        self._seen = [np.zeros((number, width, num_envs), np.float32) for number, width in kinds]
        self._kind = [(k, i) for k, (number, _) in enumerate(kinds) for i in range(number)]  # of each agent
        self._observation_spaces = {
            agent: gymnasium.spaces.Box(-np.float32(np.inf), np.float32(np.inf), (kinds[k][1],), np.float32)
            for agent, (k, _) in zip(agents, self._kind, strict=True)
        }
        self._action_spaces = {agent: self._action_space(i) for i, agent in enumerate(agents)}

    @abstractmethod
    def observe(self, state: State, seen: Sequence[Seen]) -> None:
        """Write what agents see: an array (N, D, S) for each kind."""

    @abstractmethod
    def reward(self, state: State) -> Floats:
        """Return what each agent is rewarded with after a step (A, S)."""

    def finished(self, state: State) -> NDArray[np.bool_] | None:
        """Return in which copies the task is done, which ends their episodes (S,); None: it never is."""
        del state
        return None

    def places(self) -> int:
        """Return how many positions an episode draws at its start: one for each body, unless a task draws more."""
        return len(self.world.size)

    def place(self, drawn: Floats) -> Floats:
        """Where the bodies are at first (E, 2, S), from numbers in [0, 1) for each place that is drawn."""
        return drawn * 2.0 - 1.0

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the observation space of an agent in one copy of the environment."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the action space of an agent in one copy of the environment."""
        return self._action_spaces[agent]

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        """Take the arrays that resets and steps are to write to; `spaces` has the agents and their groups."""
        self.arrays = arrays
        self._groups = [_together(group.agents) for group in spaces.groups]
        self._columns = _together([a for group in spaces.groups for a in group.agents])
        # Where what each run of agents saw goes, in as few parts as there are: group, agents in it, kind, agents in it.
        self._shown: list[tuple[int, slice, int, slice]] = []
        for g, group in enumerate(spaces.groups):
            for n, agent in enumerate(group.agents):
                kind, i = self._kind[agent]
                if self._shown and self._shown[-1][::2] == (g, kind) and self._shown[-1][3].stop == i:
                    _, before, _, seen = self._shown.pop()
                    self._shown.append((g, slice(before.start, n + 1), kind, slice(seen.start, i + 1)))
                else:
                    self._shown.append((g, slice(n, n + 1), kind, slice(i, i + 1)))

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """Begin an episode in each slot, as mpe2's `reset(seed)` does; returns no faults."""
        if len(slots):
            self._begin(_range(slots), *draw_exactly(seeds, self._goals, 2 * self.places()))
        return []

    def reset_batch(self, slots: Sequence[int], seed: int) -> list[Fault]:
        """Begin an episode in each slot, all of them drawn by one generator with this seed; returns no faults.

        Episodes begin as those of `reset` do, with other numbers, in less time.
        """
        if len(slots):
            self._begin(_range(slots), *draw_together(seed, len(slots), self._goals, 2 * self.places()))
        return []

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step in each slot; returns no faults.

        S slots, N agents of a group.

        Args:
            slots: Distinct slots whose episodes run.
            actions: One (S, N) of integers per group, or (S, N, numbers) of continuous actions, clipped to [0, 1].
        """
        if not len(slots):
            return []
        rows = _range(slots)
        state = self._state.rows(rows)
        force = self._act([given[rows] for given in actions], state.said, len(slots))
        self.world.move(state, force)
        state.time += 1
        self._state.put(rows, state)
        self.arrays.reward[rows] = self.reward(state)[self._columns].T
        self._end(rows, state)
        self._show(rows, state)
        return []

    def close(self) -> None:  # noqa: B027 - nothing has to be closed
        """Close the environment, which holds nothing that has to be closed."""

    def _action_space(self, agent: int) -> gymnasium.Space[Any]:
        body, words = self.world.agents[agent], self.world.words
        if self._continuous:
            return gymnasium.spaces.Box(0, 1, (MOVES * body.moves + words * body.speaks,))
        return gymnasium.spaces.Discrete((MOVES if body.moves else 1) * (words if body.speaks else 1))

    def _begin(self, rows: Rows, goal: NDArray[np.int64], drawn: Floats) -> None:
        """Begin episodes from integers (K, S) and numbers in [0, 1), two for each place, (2 places, S)."""
        state = self._state.rows(rows)
        state.position[:] = self.place(drawn.reshape(-1, 2, drawn.shape[1]))
        state.velocity[:] = state.said[:] = state.time[:] = 0
        state.goal[:] = goal
        self._state.put(rows, state)
        arrays = self.arrays
        arrays.reward[rows] = arrays.terminated[rows] = arrays.truncated[rows] = 0
        arrays.living[rows] = arrays.present[rows] = 1
        self._show(rows, state)

    def _act(self, actions: Sequence[NDArray[Any]], said: Floats, copies: int) -> Floats:
        """Say what agents say, and return where they want to move (A, 2, S)."""
        force = np.zeros((len(self.possible_agents), 2, copies))
        for agents, given in zip(self._groups, actions, strict=True):
            # Agents of a group have equal actions, and in no task does one of them speak or move and another not.
            first = agents.start if isinstance(agents, slice) else agents[0]
            body = self.world.agents[first]
            speakers = [self.world.speakers.index(a) for a in np.arange(len(force))[agents]] if body.speaks else []
            if self._continuous:
                parts = np.clip(given, 0.0, 1.0).transpose(1, 2, 0)
                if body.moves:
                    force[agents, 0] = parts[:, 2] - parts[:, 1]
                    force[agents, 1] = parts[:, 4] - parts[:, 3]
                if speakers:
                    said[speakers] = parts[:, MOVES * body.moves :]
            else:
                choice = given.T
                if body.moves:
                    move = choice % MOVES if speakers else choice
                    force[agents, 0], force[agents, 1] = _X[move], _Y[move]
                if speakers:
                    word = choice // MOVES if body.moves else choice
                    said[speakers] = word[:, None] == np.arange(self.world.words)[:, None]
        return force

    def _end(self, rows: Rows, state: State) -> None:
        """Write whose episode is over; as long as none is, what a reset has written holds."""
        over = state.time >= self._max_cycles
        done = self.finished(state)
        if done is not None:
            done &= ~over
            over = over | done
        if over.any():
            arrays = self.arrays
            arrays.living[rows] = arrays.present[rows] = ~over[:, None]
            if done is not None:
                arrays.terminated[rows], over = done[:, None], over & ~done
            arrays.truncated[rows] = over[:, None]

    def _show(self, rows: Rows, state: State) -> None:
        """Write what agents see."""
        seen = [buffer[..., : len(state.time)] for buffer in self._seen]
        self.observe(state, seen)
        for g, agents, kind, which in self._shown:
            self.arrays.observation[g][rows, agents] = seen[kind][which].transpose(2, 0, 1)


def fill(seen: Seen, *parts: Floats) -> None:
    """Write parts (N, ..., S), or (1, ..., S) for all, one after another into what N agents see (N, D, S)."""
    start = 0
    for part in parts:
        width = math.prod(part.shape[1:-1])
        seen[:, start : start + width] = part.reshape(len(part), width, part.shape[-1])
        start += width


def _range(slots: Sequence[int]) -> Rows:
    """Slots as a range where they follow each other, so that arrays need not be copied, else as indices."""
    first = slots[0]
    if (isinstance(slots, range) and slots.step == 1) or list(slots) == list(range(first, first + len(slots))):
        return slice(first, first + len(slots))
    return np.array(slots, np.intp)


def _together(agents: Sequence[int]) -> slice | list[int]:
    """Indices of agents as a slice where they follow each other."""
    rows = _range(agents)
    return rows if isinstance(rows, slice) else list(agents)
