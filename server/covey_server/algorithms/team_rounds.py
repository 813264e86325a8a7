"""On-policy rollouts of a team: who acts in each of its env steps, what it earned, and what follows.

The rollouts hold the decisions of each agent by itself. All agents act in every env step as long as they live, so those
of one env step are put together again, trajectory after trajectory. Example of a trajectory in which the second of two
agents terminates in its second env step, and the rollout ends after the third:

    env step   acts   next_present   reward of each   the team's   continues   kept
    0          1 1    1 1            1 2              3            1           1 1
    1          1 1    1 0            1 5              6            1           1 0
    2          1 0    1 0            4 -              4            0           0 0

`kept` are the agents whose later rewards the rollout holds. It holds none after env step 2, where agent 0 would act on,
and none of an agent that was cut off while others go on.

Dims: M members, D env steps of all of them, V views (rows in which the team saw something), N agents, A width of all
agents' actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.rows import Active, RowKind
from covey.spaces import EnvironmentSpaces, leaves
from covey_server.algorithms.distributions import distribution_of
from covey_server.algorithms.round_inputs import AgentRound, RoundInputs, round_inputs
from covey_server.experience.decisions import by_agent
from covey_server.experience.observations import TorchEncoding
from covey_server.experience.rollouts import Rollout, RoundColumn


@dataclass(frozen=True, slots=True)
class TeamRounds:
    """Rollouts of a team by M members, one member after another, as flat tensors on the device.

    Attributes:
        inputs: Gives what each of N agents' networks reads in the V views.
        counts: (M,) env steps of each member.
        here: (D,) int64, the view in which the team acted.
        after: (D,) int64, the view that followed.
        taken: (D, A) what each agent did, one-hot; zeros for agents that did not act.
        reward: (D,) sum of the rewards of the agents that acted.
        next_present: (D, N), 1 where the agent is to act after the env step, or would be if its episode had not been
            cut off.
        next_legal: (D, A) bool, false for values that the agent's mask then forbids; None where no agent has masks.
        continues: (D,), 1 where the next element is what followed.
        kept: (D, N), of those of `next_present` the agents that act in what followed; 0 where nothing continues.
        longest: Env steps of the longest trajectory.
    """

    inputs: tuple[RoundInputs, ...]
    counts: NDArray[np.int64]
    here: Tensor
    after: Tensor
    taken: Tensor
    reward: Tensor
    next_present: Tensor
    next_legal: Tensor | None
    continues: Tensor
    kept: Tensor
    longest: int


@dataclass(frozen=True, slots=True)
class TeamRound:
    """A team's rollout by one member, env step by env step; D, V, N and A as in `TeamRounds`, of this one alone.

    Attributes:
        sources: For each agent what it saw in all rows of the rollout, leaf by leaf.
        rows: (V,), the rows that are views.
        here: (D,), as in `TeamRounds`; so are all others.
    """

    sources: tuple[Sequence[RoundColumn], ...]
    rows: NDArray[np.int64]
    here: NDArray[np.int64]
    after: NDArray[np.int64]
    taken: NDArray[np.float32]
    reward: NDArray[np.float32]
    next_present: NDArray[np.bool_]
    next_legal: NDArray[np.bool_]
    continues: NDArray[np.bool_]
    kept: NDArray[np.bool_]

    def __len__(self) -> int:
        """The number of env steps of which it is known what followed."""
        return len(self.here)

    @staticmethod
    def of(rollout: Rollout, spaces: EnvironmentSpaces) -> TeamRound:
        """Put the decisions of all agents in a rollout together."""
        kind = np.asarray(rollout.columns["kind"], np.uint8)
        active = by_agent(rollout.columns, spaces, "active", np.uint8) != Active.ABSENT
        acts = active & (kind == RowKind.STEP)[:, None]
        closes, goes_on = np.zeros_like(acts), np.zeros_like(acts)
        reward = np.zeros(acts.shape, np.float32)
        next_row = np.zeros(len(kind), np.int64)
        taken, legal = [], []
        place = {agent: (group, n) for group in spaces.groups for n, agent in enumerate(group.agents)}
        for a, (agent, own) in enumerate(zip(spaces.agents, rollout.agents, strict=True)):
            at, after = own.rows[own.here], own.rows[own.after]
            closes[at, a], goes_on[at, a], reward[at, a] = own.steps == 1, ~own.terminated, own.reward
            next_row[at] = after  # the same for all agents that act
            distribution = distribution_of(agent.action)
            one_hot = np.zeros((len(kind), agent.action.width), np.float32)
            one_hot[at] = distribution.encode(own.action)
            taken.append(one_hot)
            group, n = place[a]
            if agent.masked:
                legal.append(distribution.legal(np.asarray(rollout.columns[f"{group.group_id}/action_mask"])[:, n]) > 0)
            else:
                legal.append(np.ones(one_hot.shape, np.bool_))
        # In order of trajectories, and of time within them, whose parts may lie apart among the rows.
        acting = np.flatnonzero(acts.any(1))
        acting = acting[np.argsort(rollout.trajectory[acting], kind="stable")]
        whole = (closes[acting] | ~acts[acting]).all(1)  # what follows is known of everybody
        here = acting[whole]
        after = next_row[here]
        to_act = active & np.isin(kind, (RowKind.STEP, RowKind.TAIL, RowKind.CUT))[:, None]
        next_present = np.where(acts[here], goes_on[here], to_act[after])
        continues = np.zeros(len(here), np.bool_)
        continues[:-1] = (np.diff(np.flatnonzero(whole)) == 1) & (np.diff(rollout.trajectory[here]) == 0)
        kept = np.zeros_like(next_present)
        kept[:-1] = next_present[:-1] & acts[here[1:]] & continues[:-1, None]
        viewed = np.zeros(len(kind), np.bool_)
        viewed[here] = viewed[after] = True
        view_of_row = np.cumsum(viewed) - 1
        return TeamRound(
            sources=tuple(own.source for own in rollout.agents),
            rows=np.flatnonzero(viewed),
            here=view_of_row[here],
            after=view_of_row[after],
            taken=np.concatenate(taken, 1)[here],
            reward=np.where(acts, reward, 0)[here].sum(1),
            next_present=next_present,
            next_legal=np.concatenate(legal, 1)[after],
            continues=kept.any(1),
            kept=kept,
        )


class TeamPool:
    """Puts the rollouts of teams together for learning.

    Args:
        spaces: Spaces of the environment.
        indicators: For each agent the length of the one-hot index that its network reads, 0 for none, and the agent's
            place in it.
        device: Where they are learned from.

    Attributes:
        widths: How many numbers each agent's network reads.
    """

    def __init__(
        self, spaces: EnvironmentSpaces, indicators: Mapping[int, tuple[int, int]], device: torch.device
    ) -> None:
        self._spaces, self._device = spaces, device
        self._indicators = [indicators[a] for a in range(len(spaces.agents))]
        self._encodings = [[TorchEncoding(leaf.space, device) for leaf in leaves(a.stacked)] for a in spaces.agents]
        self.widths = [a.stacked.width + more for a, (more, _) in zip(spaces.agents, self._indicators, strict=True)]

    def __call__(self, rounds: Sequence[TeamRound]) -> TeamRounds:
        """Pool these rollouts, one for each member that learns now."""
        views = np.cumsum([0, *(len(its.rows) for its in rounds)])
        masked = any(agent.masked for agent in self._spaces.agents)
        continues = np.concatenate([its.continues for its in rounds])
        ends = np.flatnonzero(~continues)

        def put(name: str, dtype: type[np.generic] = np.float32) -> Tensor:
            values = np.concatenate([getattr(its, name) for its in rounds]).astype(dtype)
            return torch.from_numpy(values).to(self._device, non_blocking=True)

        def places(name: str) -> Tensor:
            own = [getattr(its, name) + first for its, first in zip(rounds, views[:-1], strict=True)]
            return torch.from_numpy(np.concatenate(own)).to(self._device, non_blocking=True)

        return TeamRounds(
            inputs=tuple(self._inputs(a, rounds) for a in range(len(self._spaces.agents))),
            counts=np.array([len(its) for its in rounds], np.int64),
            here=places("here"),
            after=places("after"),
            taken=put("taken"),
            reward=put("reward"),
            next_present=put("next_present"),
            next_legal=put("next_legal", np.bool_) if masked else None,
            continues=put("continues"),
            kept=put("kept"),
            longest=int(np.diff(ends, prepend=-1).max(initial=0)),
        )

    def _inputs(self, agent: int, rounds: Sequence[TeamRound]) -> RoundInputs:
        """What an agent's network reads in the views of all members."""
        own = self._encodings[agent]
        parts = [AgentRound(its.rows, its.sources[agent], own, *self._indicators[agent]) for its in rounds]
        return round_inputs(parts, self.widths[agent], self._device)
