"""One step's decisions of all slots: policies, exploration and the mapping to actions in one place.

Dims: S slots, N agents of a group, W outputs of all agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.acting.actions import ActionLayout, GroupOutputs
from covey.acting.noise import SlotNoise
from covey.acting.policies import LoadedPolicy, PolicyRows
from covey.spaces import EnvironmentSpaces
from covey.v1 import order_pb2

_TINY = 1e-12  # keeps log(-log(u)) finite


class Decisions:
    """Decides for S slots at once; holds their noise from order to order.

    Draws of one step, in this sequence and whoever moves: (S, box_width) normals where a moving slot explores Box
    actions; then, where a Discrete action is sampled or an agent plays at random, (S, W + number of agents) uniforms.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int) -> None:
        self._spaces = spaces
        self._layout = ActionLayout(spaces)
        self._rows = PolicyRows(spaces, self._layout, slots)
        self._noise = SlotNoise(slots, self._layout.box_width)
        self._explore = np.zeros(slots)  # probability of a uniform choice, Discrete
        self._sample = np.zeros(slots)  # 1: choices are sampled, 0: the best is taken
        agents = len(spaces.agents)
        # Per step and agent (environment order): probability of a uniform choice, and whether a choice is sampled.
        self._chance = np.zeros((slots, agents))
        self._sampled = np.zeros((slots, agents))
        self._random_box = np.zeros((slots, self._layout.box_width), bool)
        self._draws_uniform = False
        self._any_random_box = False

    def explore(self, slot: int, exploration: order_pb2.Exploration) -> None:
        """Choose how a slot's actions are perturbed; takes effect with `plan`."""
        on = exploration.kind != order_pb2.Exploration.KIND_UNSPECIFIED
        self._noise.set(slot, exploration)
        self._explore[slot] = exploration.scale if on else 0.0
        self._sample[slot] = on

    def begin_episodes(self, slots: list[int]) -> None:
        """Noise of these slots starts anew."""
        self._noise.reset(slots)

    def plan(self, players: Mapping[int, Sequence[LoadedPolicy | None]]) -> None:
        """Fix who plays: slot to players in the environment's agent order; None plays at random. No others move."""
        self._rows.plan(players)
        self._noise.move(list(players))
        self._chance[:] = 0
        self._sampled[:] = 0
        self._random_box[:] = False
        for slot, who in players.items():
            self._chance[slot] = self._explore[slot]
            self._sampled[slot] = self._sample[slot]
            for out in self._layout.groups:
                for n, agent in enumerate(out.group.agents):
                    if who[agent] is None:
                        self._chance[slot, agent] = 1
                        first = out.start + n * out.width
                        self._random_box[slot, first : min(first + out.width, self._layout.box_width)] = True
        self._any_random_box = bool(self._random_box.any())
        discrete = [agent for out in self._layout.discrete for agent in out.group.agents]
        self._draws_uniform = self._any_random_box or bool(
            self._chance[:, discrete].any() or self._sampled[:, discrete].any()
        )

    def decide(self, observation: Sequence[NDArray[Any]], rng: np.random.Generator) -> list[NDArray[Any]]:
        """Fresh arrays of actions (S, N, *shape), one per group; rows of slots that do not move mean nothing.

        Args:
            observation: One (S, N, *shape) per group.
            rng: Of the order.
        """
        layout = self._layout
        outputs = self._rows.forward(observation)
        unit = np.tanh(0.5 * outputs[:, : layout.box_width], dtype=np.float64)
        if self._noise.active:
            unit += self._noise.step(rng)
            np.maximum(unit, -1, out=unit)
            np.minimum(unit, 1, out=unit)
        uniform = None
        if self._draws_uniform:
            uniform = rng.random((len(outputs), layout.width + len(self._spaces.agents)))
        if uniform is not None and self._any_random_box:
            unit[self._random_box] = (2 * uniform[:, : layout.box_width] - 1)[self._random_box]
        choices = {out.group.group_id: self._choose(out, outputs, uniform) for out in layout.discrete}
        return layout.split(layout.box_actions(unit), choices)

    def _choose(
        self, out: GroupOutputs, outputs: NDArray[np.float32], uniform: NDArray[np.float64] | None
    ) -> NDArray[np.int64]:
        """Choices (S, N) of one group with Discrete actions, from 0.

        Argmax of logits; argmax of logits plus Gumbel noise, which samples their softmax; or, with the agent's chance,
        argmax of the uniforms themselves, which is uniform.
        """
        shape = (len(outputs), out.agents, out.width)
        scores = outputs[:, out.columns].reshape(shape).astype(np.float64)
        if uniform is not None:
            agents = list(out.group.agents)
            u = uniform[:, out.columns].reshape(shape)
            gumbel = -np.log(-np.log(np.clip(u, _TINY, 1 - _TINY)))
            scores += self._sampled[:, agents, None] * gumbel
            coin = uniform[:, self._layout.width :][:, agents]
            scores = np.where((coin < self._chance[:, agents])[..., None], u, scores)
        choices: NDArray[np.int64] = scores.argmax(-1)
        return choices
