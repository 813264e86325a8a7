"""Exploration noise of Box actions, drawn for all environments and agents of an actor at once.

Dims: S slots, W numbers of all Box actions of an environment.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from covey.v1 import order_pb2

MAX_NOISE = 1e6
"""Largest coefficient of noise, in units of the action range mapped to [-1, 1]: more would be clipped all the same."""


def bounded(exploration: order_pb2.Exploration) -> bool:
    """Whether exploration noise with these coefficients stays finite however many steps are made.

    Ornstein-Uhlenbeck noise multiplies its state by 1 - theta dt in each step, which must not be below -1.
    """
    e = exploration
    finite = max(abs(e.scale), abs(e.mean), abs(e.theta), abs(e.dt)) <= MAX_NOISE and e.theta * e.dt <= 2
    # Comparisons with NaN are false.
    return finite and min(e.scale, e.theta, e.dt) >= 0 and not math.isnan(e.mean)


class SlotNoise:
    """The exploration noise of S environments, of any kind, as one recursion: n <- keep * n + drift + spread * N(0, 1).

    Ornstein-Uhlenbeck, n <- n + theta (mean - n) dt + scale sqrt(dt) N(0, 1): keep = 1 - theta dt,
    drift = theta mean dt, spread = scale sqrt(dt). Gaussian, N(mean, scale): keep = 0, drift = mean, spread = scale.
    Samples of Gaussian policies: noise of mean 0 and the policy's own standard deviations. Slots that stand still:
    keep = 1, drift = spread = 0.

    Args:
        slots: Number of environments, S.
        width: W.

    Attributes:
        state: (S, W), the noise n of the newest step.
        active: Whether any slot that moves has noise.
    """

    def __init__(self, slots: int, width: int) -> None:
        self.state = np.zeros((slots, width))
        # The slots' own coefficients (keep, drift, spread), and those in force, which hold still the slots that pause.
        self._own = np.zeros((3, slots, 1))
        self._now = np.zeros((3, slots, width))
        self._rng: np.random.Generator | None = None
        self._normals = np.zeros((0, slots, width))  # standard normals of the steps to come, drawn from `_rng`
        self._ahead = np.zeros((0, slots, width))  # states of the steps to come, computed from them
        self.active = False

    def set(self, slot: int, exploration: order_pb2.Exploration) -> None:
        """Set the kind and coefficients of an environment's noise, in force from the next `move` on.

        Its state stays.
        """
        e = exploration
        match e.kind:
            case order_pb2.Exploration.KIND_ORNSTEIN_UHLENBECK:
                own = (1 - e.theta * e.dt, e.theta * e.dt * e.mean, e.scale * math.sqrt(e.dt))
            case order_pb2.Exploration.KIND_GAUSSIAN:
                own = (0.0, e.mean, e.scale)
            case _:
                own = (0.0, 0.0, 0.0)
        self._own[:, slot, 0] = own

    def move(self, slots: list[int], deviations: NDArray[np.float64] | None = None) -> None:
        """Set which environments' noise changes with each step from now on; that of all others stands still.

        Args:
            slots: Which environments.
            deviations: (environments, numbers of Box actions), standard deviations of actions that are sampled from
                Gaussian policies (1 for squashed ones, which scale the noise themselves), 0 elsewhere; None: none are
                sampled.
        """
        self._now[0] = 1
        self._now[1:] = 0
        self._now[:, slots] = self._own[:, slots]
        if deviations is not None:
            self._now[2] += deviations
        self._ahead = self._ahead[:0]
        self.active = self.state.shape[1] > 0 and bool(self._own[:, slots].any() or deviations is not None)

    def reset(self, slots: list[int]) -> None:
        """Set the noise of these environments to 0, as episodes begin in them."""
        self.state[slots] = 0
        self._ahead = self._ahead[:0]

    def prepare(self, rng: np.random.Generator, steps: int) -> None:
        """Draw and compute the noise of the next `steps` env steps at once, which is quicker than one by one.

        The draws are those of as many calls of `step`, if nothing else is drawn between these.

        Args:
            rng: Draws normals; normals left over from another generator are dropped.
            steps: How many.
        """
        if rng is not self._rng:
            self._rng, self._normals = rng, self._normals[:0]
        if missing := max(0, steps - len(self._normals)):
            self._normals = np.concatenate([self._normals, rng.standard_normal((missing, *self.state.shape))])
        keep, drift, spread = self._now
        # n_t = keep * n_(t - 1) + (drift + spread * N_t): the bracket for all steps at once, then the sum step by step.
        ahead = self._normals[:steps] * spread
        ahead += drift
        before = self.state
        for state in ahead:
            state += keep * before
            before = state
        self._ahead = ahead

    def step(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Advance the noise by one env step.

        Returns that of all environments, (environments, numbers of Box actions).
        """
        if not len(self._ahead) or rng is not self._rng:
            self.prepare(rng, 1)
        self.state, self._ahead, self._normals = self._ahead[0], self._ahead[1:], self._normals[1:]
        return self.state
