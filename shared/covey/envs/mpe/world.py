"""The physics that all MPE tasks share: bodies on a plane that are pushed, collide, and slow down; and what is said.

Dims: S copies of the world, A agents, L landmarks, E = A + L bodies (agents first), P pairs, W words; the 2 are x, y.
Copies are the last axis, so that every operation runs along all of them. The order of operations is mpe2's, so that
results are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = slice | NDArray[np.intp]
"""Copies of the world: a range of them, or their indices."""

TIME_STEP = 0.1
DAMPING = 0.25
CONTACT_FORCE = 100.0
CONTACT_MARGIN = 1e-3


@dataclass(frozen=True)
class Body:
    """An agent or a landmark.

    Attributes:
        size: Its radius.
        collides: Whether it pushes others away, and is pushed.
        moves: Whether it moves, by its actions and when it is pushed.
        acceleration: What its actions are multiplied by.
        max_speed: It moves no faster.
        speaks: Whether its actions hold a word.
    """

    size: float = 0.05
    collides: bool = False
    moves: bool = False
    acceleration: float = 5.0
    max_speed: float = np.inf
    speaks: bool = False


@dataclass
class State:
    """What changes in S copies of a world.

    Attributes:
        position: (E, 2, S).
        velocity: Of the agents (A, 2, S).
        said: What each agent that speaks said in the last step (speakers, W, S).
        goal: The integers that were drawn for the episode (K, S).
        time: Env steps of the episode (S,).
    """

    position: Floats
    velocity: Floats
    said: Floats
    goal: NDArray[np.int64]
    time: NDArray[np.int64]

    def rows(self, rows: Rows) -> State:
        """Return the state of some copies: views of a range, copies of what indices name."""
        return State(*(array[..., rows] for array in vars(self).values()))

    def place_of(self, body: NDArray[np.int64]) -> Floats:
        """Return where one body is that differs from copy to copy: (S,) gives (2, S)."""
        return self.position[body, :, np.arange(len(body))].T

    def put(self, rows: Rows, state: State) -> None:
        """Write back what `rows` returned; views of a range have nothing to write back."""
        if not isinstance(rows, slice):
            for array, new in zip(vars(self).values(), vars(state).values(), strict=True):
                array[..., rows] = new


class World:
    """Bodies, and how they move.

    Args:
        agents: The agents.
        landmarks: The landmarks, which never move.
        words: How many words there are.

    Attributes:
        agents: The agents.
        landmarks: The landmarks.
        words: How many words there are.
        size: Radius of each body (E, 1).
        speakers: Indices of the agents that speak.
    """

    def __init__(self, agents: Sequence[Body], landmarks: Sequence[Body], words: int = 0) -> None:
        bodies = [*agents, *landmarks]
        self.agents, self.landmarks, self.words = tuple(agents), tuple(landmarks), words
        self.size = np.array([[body.size] for body in bodies])
        self._acceleration = np.array([[agent.acceleration] for agent in agents])
        self.speakers = [i for i, agent in enumerate(agents) if agent.speaks]
        movers = [i for i, agent in enumerate(agents) if agent.moves]
        self._movers = slice(movers[0], movers[-1] + 1) if movers else slice(0)  # in all tasks next to each other
        self._max_speed = np.array([[agents[i].max_speed] for i in movers])
        self._limited = bool(np.isfinite(self._max_speed).any())
        self._pairs = [
            (a, b)
            for a, first in enumerate(bodies)
            for b, second in enumerate(bodies)
            if a < b and first.collides and second.collides and (first.moves or second.moves)
        ]
        self._first, self._second = (np.array([pair[i] for pair in self._pairs], np.intp) for i in (0, 1))
        self._touching = self.size[self._first] + self.size[self._second]  # (P, 1)

    def begin(self, copies: int, goals: int) -> State:
        """Make a state of zeros for so many copies, with so many integers to draw."""
        bodies, agents = len(self.size), len(self.agents)
        return State(
            position=np.zeros((bodies, 2, copies)),
            velocity=np.zeros((agents, 2, copies)),
            said=np.zeros((len(self.speakers), self.words, copies)),
            goal=np.zeros((goals, copies), np.int64),
            time=np.zeros(copies, np.int64),
        )

    def move(self, state: State, force: Floats) -> None:
        """Move all bodies by one time step.

        Args:
            state: Whose positions and velocities change.
            force: Where the agents' own actions push them (A, 2, S), each number in [-1, 1]; it is changed.
        """
        force *= self._acceleration[:, None]
        if self._pairs:
            self._collide(state.position, force)
        movers = self._movers
        position, velocity = state.position[movers], state.velocity[movers]
        position += velocity * TIME_STEP
        velocity *= 1 - DAMPING
        force *= TIME_STEP
        velocity += force[movers]
        if self._limited:
            speed = length(velocity)
            fast = speed > self._max_speed
            if fast.any():
                slowed = velocity / np.where(fast, speed, 1.0)[:, None] * self._max_speed[:, None]
                np.copyto(velocity, slowed, where=fast[:, None])

    def _collide(self, position: Floats, force: Floats) -> None:
        """Add to `force` how bodies that touch push each other away, softly within the contact margin."""
        between = position[self._first] - position[self._second]
        distance = length(between)
        depth = np.logaddexp(0, (self._touching - distance) / CONTACT_MARGIN)
        depth *= CONTACT_MARGIN
        between *= CONTACT_FORCE
        between /= distance[:, None]
        between *= depth[:, None]
        agents = len(self.agents)
        for (first, second), push in zip(self._pairs, between, strict=True):
            force[first] += push
            if second < agents:
                force[second] -= push


def length(vector: Floats) -> Floats:
    """Length of vectors (..., 2, S); returns (..., S)."""
    x, y = vector[..., 0, :], vector[..., 1, :]
    return np.sqrt(x * x + y * y)


def relative(position: Floats, origin: Floats) -> Floats:
    """Where M bodies at `position` (M, 2, S) are, seen from each of N at `origin` (N, 2, S): (N, M, 2, S)."""
    return position - origin[:, None]


def others(agents: int) -> NDArray[np.intp]:
    """For each of A agents the indices of the other ones, in order: (A, A - 1)."""
    return np.array([[b for b in range(agents) if b != a] for a in range(agents)], np.intp).reshape(agents, agents - 1)
