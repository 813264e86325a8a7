"""Chooses the actions of all environments for one env step: policies, exploration, masks, mapping to spaces.

Dims: S slots, N agents of a group, W outputs of all agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.acting.actions import ActionLayout, LeafOutputs, best_choices
from covey.acting.loaded import LoadedPolicy
from covey.acting.noise import SlotNoise
from covey.acting.policies import PolicyRows
from covey.acting.states import AgentStates
from covey.networks.network import LOG_STD
from covey.spaces import EnvironmentSpaces, MultiBinary, choices
from covey.spaces.components import choice_of_output
from covey.v1 import order_pb2
from covey.wire.policy_file import HIGHEST_LOG_STD, LOWEST_LOG_STD

_TINY = 1e-12  # keeps logarithms of uniforms finite
_LOWEST = -3e38  # lowest score of a legal value: even a network that overflowed must rank above illegal ones, -inf


class Decisions:
    """Chooses the actions of S environments at once; keeps their exploration noise from order to order.

    Draws of one step, in this sequence and of this shape whichever environments move: (S, box_width) normals, where a
    moving environment explores Box actions or samples them; then, where a choice is sampled or an agent plays at
    random, (S, outputs of all agents + coins of all agents) uniforms: an agent has a coin for each choice of its
    action, and one if it has none.

    Args:
        spaces: Spaces of the environment.
        slots: Number of environments, S.
        states: What agents of these environments remember, where policies have memory; None: states of their own.

    Attributes:
        states: The same.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int, states: AgentStates | None = None) -> None:
        self._spaces = spaces
        self._layout = ActionLayout(spaces, slots)
        self._rows = PolicyRows(spaces, self._layout, states)
        self.states = self._rows.states
        self._noise = SlotNoise(slots, self._layout.box_width)
        self._explore = np.zeros(slots)  # probability of a uniform choice
        self._sample = np.zeros(slots)  # 1: choices are sampled, 0: the best is taken
        self._sample_box = np.zeros(slots, bool)  # Box actions are sampled from Gaussian and squashed policies
        agents = len(spaces.agents)
        # Per agent (environment order): probability of a uniform choice, and whether a choice is sampled.
        self._chance = np.zeros((slots, agents))
        self._sampled = np.zeros((slots, agents))
        coins = [max(1, len(choices(agent.action))) for agent in spaces.agents]
        # Of each agent, where its coins lie among the uniforms, and in the end how many uniforms there are.
        self._first_coin = (self._layout.width + np.cumsum([0, *coins])).tolist()
        self._chances: list[_Chance] = []  # set by `plan`, one for each leaf with discrete actions
        # Per number of a Box action: whether it is drawn uniformly, and whether the output is a Gaussian's mean.
        self._random_box = np.zeros((slots, self._layout.box_width), bool)
        self._gaussian = np.zeros((slots, self._layout.box_width), bool)
        self._deviation = np.zeros((slots, self._layout.box_width))  # 0 where nothing is sampled
        # Whether the output is the mean of a squashed Gaussian, and whether it is sampled.
        self._squashed = np.zeros((slots, self._layout.box_width), bool)
        self._sampled_squashed = np.zeros((slots, self._layout.box_width), bool)
        self._draws_uniform = False
        self._any_random_box = self._any_gaussian = self._any_sampled_box = False
        self._any_squashed = self._any_sampled_squashed = False

    def explore(self, slot: int, exploration: order_pb2.Exploration) -> None:
        """Set how an environment's actions are perturbed for exploration; takes effect with the next `plan`."""
        on = exploration.kind != order_pb2.Exploration.KIND_UNSPECIFIED
        self._noise.set(slot, exploration)
        # Learned by Q-learning, the best choice is the policy; from other policies it is sampled.
        self._sample[slot] = on and exploration.kind != order_pb2.Exploration.KIND_EPSILON_GREEDY
        self._sample_box[slot] = sample = exploration.kind == order_pb2.Exploration.KIND_SAMPLE
        self._explore[slot] = exploration.scale if on and not sample else 0.0

    def begin_episodes(self, slots: list[int]) -> None:
        """Reset the exploration noise of these environments, and what agents remember, as episodes begin in them."""
        self.reset_noise(slots)
        self.states.begin_episodes(slots)

    def reset_noise(self, slots: list[int]) -> None:
        """Reset the exploration noise of these environments, and nothing else."""
        self._noise.reset(slots)

    def plan(self, players: Mapping[int, Sequence[LoadedPolicy | None]]) -> None:
        """Set which policies play the agents of which environments in the env steps to come.

        Args:
            players: For each one stepped, the policies of its agents in environment order; None plays at random.
        """
        self._rows.plan(players)
        # Anew from nothing: slots that do not move shall draw nothing that matters.
        self._chance[:] = 0
        self._sampled[:] = 0
        self._random_box[:] = False
        self._gaussian[:] = False
        self._deviation[:] = 0
        self._squashed[:] = self._sampled_squashed[:] = False
        moving = list(players)
        self._chance[moving] = self._explore[moving, None]
        self._sampled[moving] = self._sample[moving, None]
        for out in self._layout.leaves:
            for n, agent in enumerate(out.agents):
                first = out.start + n * out.width
                numbers = slice(first, min(first + out.width, self._layout.box_width))  # none of a discrete leaf
                for slot, who in players.items():
                    policy = who[agent]
                    if policy is None:
                        self._chance[slot, agent] = 1
                        self._random_box[slot, numbers] = True
                    elif policy.spec.head == "stochastic" and first < self._layout.box_width:
                        self._gaussian[slot, numbers] = True
                        if self._sample_box[slot]:
                            self._deviation[slot, numbers] = np.exp(
                                policy.params[LOG_STD][out.outputs], dtype=np.float64
                            )
                    elif policy.spec.head == "squashed":
                        self._squashed[slot, numbers] = True
                        self._sampled_squashed[slot, numbers] = self._sample_box[slot]
        self._any_random_box = bool(self._random_box.any())
        self._any_gaussian = bool(self._gaussian.any())
        self._any_sampled_box = bool(self._deviation.any())
        self._any_squashed, self._any_sampled_squashed = bool(self._squashed.any()), bool(self._sampled_squashed.any())
        # Deviations of squashed policies depend on what is seen: here they are 1, the noise is standard normal.
        drawn = self._any_sampled_box or self._any_sampled_squashed
        self._noise.move(moving, self._deviation + self._sampled_squashed if drawn else None)
        self._chances = [
            _Chance(self._chance, self._sampled, out, self._first_coin) for _, out in self._layout.choosing
        ]
        self._draws_uniform = self._any_random_box or any(c.any_uniform or c.any_sampled for c in self._chances)

    def prepare(self, rng: np.random.Generator, steps: int) -> None:
        """Draw the exploration noise of the next `steps` env steps at once, if the numbers come out the same.

        Args:
            rng: The generator that these calls will be given.
            steps: How many.
        """
        if self._noise.active and not self._draws_uniform:
            self._noise.prepare(rng, steps)

    def decide(
        self,
        observation: Sequence[NDArray[Any]],
        mask: Sequence[NDArray[np.uint8] | None],
        rng: np.random.Generator,
        present: NDArray[np.uint8] | None = None,
        living: NDArray[np.uint8] | None = None,
    ) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Choose the actions of one env step in all S environments; N agents of a group.

        Args:
            observation: One (S, N, *shape) per group; of stacks where policies read those.
            mask: One (S, N, mask width) per group, 1 for legal values; None where all are legal.
            rng: Draws exploration and samples.
            present: (S, A), not 0 for agents that act, group by group: policies with memory remember what these see,
                and nothing of agents that wait. None: all act.
            living: (S, A), 0 for agents that are gone, which forget everything. None: none is.

        Returns:
            What environments get, and what rows store: each one fresh array (S, N, *shape) per group, whose entries
            mean nothing for slots that do not move and agents that do not act. The two are the same objects, except
            where Gaussian policies are sampled: rows store the sample before it was clipped.
        """
        layout = self._layout
        if self.states.any:
            self.states.see(present, living)
        outputs = self._rows.forward(observation)
        # Outputs of deterministic heads become tanh(z / 2), of squashed Gaussians tanh(mean); means of Gaussians stay.
        means = outputs[:, : layout.box_width]
        unit = np.tanh(0.5 * means)
        if self._any_gaussian:
            np.copyto(unit, means, where=self._gaussian)
        if self._any_squashed:
            np.copyto(unit, np.tanh(means), where=self._squashed)
        # From here on float64: the sum with the noise, and the mapping to bounds, shall not round to float32.
        noise = self._noise.step(rng) if self._noise.active else None
        unit = unit.astype(np.float64) if noise is None else unit + noise
        if self._any_sampled_squashed and noise is not None:
            log_std = np.minimum(np.maximum(self._rows.log_std(), LOWEST_LOG_STD), HIGHEST_LOG_STD)
            np.copyto(unit, np.tanh(means + np.exp(log_std) * noise), where=self._sampled_squashed)
        uniform = None
        if self._draws_uniform:
            uniform = rng.random((len(outputs), self._first_coin[-1]))
            if self._any_random_box:
                np.copyto(unit, 2 * uniform[:, : layout.box_width] - 1, where=self._random_box)
        samples = unit.copy() if self._any_sampled_box else None
        if self._any_gaussian:  # a Gaussian's mean has no limits, and may be infinite, which maps to no bound
            np.maximum(unit, -1, out=unit)
            np.minimum(unit, 1, out=unit)
        chosen = {
            i: self._choose(out, chance, outputs, uniform, mask[out.group])
            for (i, out), chance in zip(layout.choosing, self._chances, strict=True)
        }
        box = layout.box_actions(unit)
        given = layout.split(box, chosen)
        if samples is None:
            return given, given
        stored = layout.box_samples(samples)
        np.copyto(stored, box, where=self._deviation == 0)
        return given, layout.split(stored, chosen)

    def _choose(
        self,
        out: LeafOutputs,
        chance: _Chance,
        outputs: NDArray[np.float32],
        uniform: NDArray[np.float64] | None,
        mask: NDArray[np.uint8] | None,
    ) -> NDArray[Any]:
        """Choose the discrete actions of one leaf, counted from 0: for each choice the value with the highest score.

        The shape is (environments, agents of the group, choices). Scores are the logits z; z - log(-log u), u
        uniform, where choices are sampled: with this Gumbel noise the highest score is a sample of softmax(z). For
        switches it is logistic noise, z + log(u / (1 - u)), which is positive with probability sigmoid(z). With the
        agent's chance of a uniform choice, scores are u (u - 1/2 for switches). Illegal values score -inf, so the same
        draws sample the softmax over legal values, or choose uniformly among them.
        """
        space = out.leaf.space
        shape = (len(outputs), len(out.agents), out.width)
        scores: NDArray[Any] = outputs[:, out.columns].reshape(shape)
        if uniform is not None and (chance.any_sampled or chance.any_uniform):
            u = uniform[:, out.columns].reshape(shape)
            switches = isinstance(space, MultiBinary)
            if chance.any_sampled:
                inside = np.minimum(np.maximum(u, _TINY), 1 - _TINY)
                noise = np.log(inside / (1 - inside)) if switches else -np.log(-np.log(inside))
                scores = scores + chance.sampled * noise
            if chance.any_uniform:
                tossed = uniform[:, chance.coins] < chance.uniform[..., None]
                scores = np.where(tossed, u - 0.5 if switches else u, scores)
        if mask is not None and out.masked is not None:
            scores = np.where(mask[..., out.masked], np.maximum(scores, _LOWEST), -np.inf)
        return best_choices(space, scores)


class _Chance:
    """How the agents of one group choose in S environments, in one leaf of their actions: best, sampled or uniform.

    Args:
        uniform: (S, number of agents) in the environment's order, the probability of a uniform choice.
        sampled: The same shape, 1 where choices are sampled, 0 where the best is taken.
        out: The leaf's outputs.
        first_coin: Of each agent, where the coin of its first choice lies among an environment's uniforms.

    Attributes:
        coins: (agents of the group, outputs), for each output where the coin of its choice lies.
    """

    def __init__(
        self, uniform: NDArray[np.float64], sampled: NDArray[np.float64], out: LeafOutputs, first_coin: Sequence[int]
    ) -> None:
        agents = np.array(out.agents)
        self.coins = np.array(first_coin)[agents, None] + out.first_choice + choice_of_output(out.leaf.space)
        self.uniform = uniform[:, agents]
        self.sampled = sampled[:, agents, None]
        self.any_uniform, self.any_sampled = bool(self.uniform.any()), bool(self.sampled.any())
