"""Which networks keep running statistics, of what their agents observe and earn, and how on-policy learning uses them.

A round was played with the statistics that the policies had when it began, so it is learned from with the same ones;
they move on with the round, and what is published after it has the new ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.config import AlgorithmSettings
from covey.networks.normalisation import CLIP, MEAN, SCALE, Moments, Ranges, normalised_ranges
from covey.networks.resolve import network_ids
from covey.rows import STATE
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.agent_types import AgentType, joint_width
from covey_server.algorithms.joint_view import JointView
from covey_server.algorithms.pooled import Pooled
from covey_server.algorithms.round_inputs import Change
from covey_server.experience.observed import NormalisedNumbers
from covey_server.experience.rollouts import Rollout
from covey_server.member import Member, Network

OBSERVED, EARNED = "normalize_observations", "scale_rewards"
"""The settings, which an algorithm may have, that ask for statistics of what agents observe and of what they earn."""


def kept_statistics(settings: AlgorithmSettings) -> list[str]:
    """Return the settings that ask for running statistics and are on."""
    return [name for name in (OBSERVED, EARNED) if getattr(settings, name, False)]


def begin_statistics(
    settings: AlgorithmSettings,
    spaces: EnvironmentSpaces,
    networks: Mapping[str, Network],
    state_roles: Collection[str] = (),
) -> None:
    """Give the networks of a new member the statistics that they are to keep, of nothing yet.

    Args:
        settings: Say what is normalised.
        spaces: Spaces of the environment.
        networks: The networks by key.
        state_roles: Roles of those that read the state of the whole environment: each keeps statistics of it.
    """
    kept, owners = kept_statistics(settings), network_ids(spaces, settings.share_parameters)
    if not kept:
        return
    for key, network in networks.items():
        role, _, network_id = key.partition("/")
        ranges: Ranges = ()
        if role == "actor":
            ranges = normalised_ranges(spaces.agents[owners[network_id][0]].observation)
        elif role in state_roles and spaces.state is not None:
            ranges = normalised_ranges(spaces.state)
        if OBSERVED in kept and ranges:
            network.observed = Moments.none(sum(end - first for first, end in ranges))
        if role == "critic" and EARNED in kept:
            network.earned = Moments.none(1)


class Normalisation:
    """Normalises views of a round, each by the statistics of its pair, by the same operations as actors do.

    Args:
        counts: (R,) views of each pair.
        width: Numbers of a view.
        device: Where they are.
    """

    def __init__(self, counts: NDArray[np.int64], width: int, device: torch.device) -> None:
        self._pair = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(device, non_blocking=True)
        shape = len(counts), width
        self._mean, self._scale = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        self._limit = np.full(shape, np.inf, np.float32)
        self._device = device

    def observe(self, pair: int, first: int, ranges: Ranges, observed: Moments) -> None:
        """Say that an observation, whose numbers begin at `first`, is normalised by these statistics."""
        tensors, at = observed.tensors(), 0
        for start, end in ranges:
            columns, numbers = slice(first + start, first + end), slice(at, at + end - start)
            self._mean[pair, columns] = tensors[MEAN][numbers]
            self._scale[pair, columns] = tensors[SCALE][numbers]
            self._limit[pair, columns] = CLIP
            at += end - start

    def made(self) -> Change:
        """Return what normalises views, as `RoundInputs.change` takes it."""
        mean, scale, limit = (
            torch.from_numpy(x).to(self._device, non_blocking=True) for x in (self._mean, self._scale, self._limit)
        )
        pair = self._pair

        def change(views: Tensor, x: Tensor) -> Tensor:
            its = pair[views]
            most = limit[its]
            return x.sub_(mean[its]).mul_(scale[its]).clamp_(-most, most)

        return change


def normalise(x: Tensor, ranges: Ranges, mean: Tensor, scale: Tensor) -> None:
    """Normalise observations in place, by the same operations as actors do.

    Args:
        x: (..., width), encoded.
        ranges: Which numbers are normalised; R together.
        mean: (..., R), of these numbers.
        scale: (..., R), 1 / their standard deviation.
    """
    at = 0
    for first, end in ranges:
        numbers = slice(at, at + end - first)
        x[..., first:end].sub_(mean[..., numbers]).mul_(scale[..., numbers]).clamp_(-CLIP, CLIP)
        at += end - first


class RoundStatistics:
    """Normalises the observations of on-policy rounds and scales their rewards, and moves the statistics on.

    Args:
        group: The types of agents whose networks learn here.
        members: Who learns here; the statistics are those of their networks.
        settings: Say what is normalised.
        device: Where networks learn.
        joint: What value networks see; None: the same as policies. Where that is the environment's state, each of them
            has statistics of the state of its own.
    """

    def __init__(
        self,
        group: Sequence[AgentType],
        members: Sequence[Member],
        settings: AlgorithmSettings,
        device: torch.device,
        joint: JointView | None = None,
    ) -> None:
        self._members, self._device, self._joint = members, device, joint
        self._width = max(own.width for own in group)
        self._joint_width = 0 if joint is None else joint_width(group, joint)
        self._state = None if joint is None or joint.spaces.state is None else NormalisedNumbers(joint.spaces.state)
        ids = {} if joint is None else network_ids(joint.spaces, settings.share_parameters)
        self._player = {agent: i for i, agents in ids.items() for agent in agents}
        self._kept = kept_statistics(settings)
        # Of each network id: itself, its agents, their numbers and where these lie, in the order of pairs.
        self._ids = [
            (i, agents, own, NormalisedNumbers(own.observation), normalised_ranges(own.observation))
            for own in group
            for i, agents in own.ids.items()
        ]

    def __call__(
        self, pooled: Pooled, due: Sequence[int], rounds: Sequence[Rollout], gamma: NDArray[np.float64]
    ) -> Pooled:
        """Normalise what was pooled, in place, and count it.

        Args:
            pooled: The rounds' decisions, pair by pair: network ids, each for the members due in turn.
            due: Positions of these members.
            rounds: Their rounds.
            gamma: (pairs,), discounts.
        """
        pairs = [(*own, self._members[m], its) for own in self._ids for m, its in zip(due, rounds, strict=True)]
        if OBSERVED in self._kept:
            policies = Normalisation(pooled.view_counts, self._width, self._device)
            for pair, (i, *_, ranges, member, _its) in enumerate(pairs):
                if (observed := member.networks[f"actor/{i}"].observed) is not None:
                    policies.observe(pair, 0, ranges, observed)
            pooled.inputs.change(policies.made())
            if self._joint is not None:
                pooled.value_inputs.change(self._of_all(self._joint, pooled, pairs).made())
            for i, agents, _, numbers, _ranges, member, its in pairs:
                network = member.networks[f"actor/{i}"]
                for agent in agents:
                    decisions = its.agents[agent]
                    if network.observed is not None and len(decisions.here):
                        rows = decisions.rows[decisions.here]
                        seen = [source[rows] for source in decisions.source]
                        network.observed = network.observed.joined(Moments.of(numbers(seen)))
                critic = member.networks[f"critic/{i}"]
                if critic.observed is not None and self._state is not None:
                    for agent in agents:
                        decisions = its.agents[agent]
                        state = its.columns[STATE][decisions.rows[decisions.here]]
                        critic.observed = critic.observed.joined(Moments.of(self._state([state])))
        if EARNED not in self._kept:
            return pooled
        scales = []
        for (i, agents, *_, member, its), discount in zip(pairs, gamma.tolist(), strict=True):
            network = member.networks[f"critic/{i}"]
            assert network.earned is not None
            for agent in agents:
                d = its.agents[agent]
                if len(d.here):
                    returns = discounted(d.reward, d.steps, d.continues, discount)
                    network.earned = network.earned.joined(Moments.of(returns[:, None]))
            scales.append(network.earned.scale[0])
        by_decision = np.repeat(np.array(scales, np.float32), pooled.counts)
        return replace(pooled, reward=pooled.reward * self._put(by_decision))

    def _of_all(self, joint: JointView, pooled: Pooled, pairs: Sequence[tuple[Any, ...]]) -> Normalisation:
        """Normalise what value networks see: observations by the statistics of policies, the state by their own."""
        found = Normalisation(pooled.view_counts, self._joint_width, self._device)
        for pair, (i, agents, *_own, member, _its) in enumerate(pairs):
            at = 0
            for agent in joint.seen(agents[0]):
                observation = joint.spaces.agents[agent].observation
                observed = member.networks[f"actor/{self._player[agent]}"].observed
                if observed is not None:
                    found.observe(pair, at, normalised_ranges(observation), observed)
                at += observation.width
            state, observed = joint.spaces.state, member.networks[f"critic/{i}"].observed
            if state is not None and observed is not None:
                found.observe(pair, at, normalised_ranges(state), observed)
        return found

    def _put(self, values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)


def discounted(
    reward: NDArray[np.float32], steps: NDArray[np.int64], continues: NDArray[np.bool_], gamma: float
) -> NDArray[np.float64]:
    """Sum rewards up to each decision, discounting those before: G = r + gamma^k G', k env steps after the last one.

    Example: rewards 1, 2, 4 of one trajectory, a step each and gamma 0.5, give 1, 2.5 and 5.25.

    Args:
        reward: (D,) of one agent's decisions, one trajectory after another.
        steps: (D,) env steps that each took.
        continues: (D,) whether the next decision is of the same trajectory.
        gamma: Discount of an env step.
    """
    sums = np.empty(len(reward))
    total = 0.0
    # Plain numbers in a loop: trajectories have many lengths, and there is one such sum a round.
    for i, (r, weight, goes_on) in enumerate(
        zip(reward.tolist(), np.power(gamma, steps).tolist(), continues.tolist(), strict=True)
    ):
        sums[i] = total = total + r
        total = total * weight if goes_on else 0.0
    return sums
