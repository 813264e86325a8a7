"""The temperatures of maximum-entropy policies: what a nat of entropy is worth to each, learned or fixed.

A temperature alpha > 0 is learned as its logarithm, by Adam, so that a policy's entropy comes to a target H:

    J(alpha) = mean -log alpha (log pi(a|o) + H)          d J / d log alpha = -mean (log pi(a|o) + H)

A policy of less entropy than H has log pi > -H, so alpha grows, and with it what entropy is worth.

Dims: K networks of a member (a policy each), M members, N agents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey_server.member import Member, Temperature
from covey_server.packing.optimiser import BETAS, EPS


class Temperatures:
    """The temperatures of a population's policies on the device, and Adam's state where they are learned.

    All is in double precision: there are few of them, and their state is stored as plain numbers.

    Args:
        members: The population. `unpack` writes into its policies' `Network.temperature`.
        ids: Agents by network id, in the order of the critics.
        ent_coef: The temperature of all of them; "auto": they are learned.
        target: For each network, the entropy to which its temperature leads the policy.
        device: Where updates are computed.
    """

    def __init__(
        self,
        members: Sequence[Member],
        ids: Mapping[str, tuple[int, ...]],
        ent_coef: Literal["auto"] | float,
        target: Sequence[float],
        device: torch.device,
    ) -> None:
        self._members, self._keys = list(members), [f"actor/{i}" for i in ids]
        self._agents = [len(agents) for agents in ids.values()]
        self.learned = ent_coef == "auto"
        own = [[m.networks[key].temperature or Temperature() for m in members] for key in self._keys]

        def matrix(name: str) -> Tensor:
            return torch.tensor([[getattr(t, name) for t in its] for its in own], dtype=torch.float64).to(device)

        # (K, M) each: log alpha, Adam's moments and its steps.
        self._state = [matrix(name) for name in ("log_alpha", "first_moment", "second_moment", "adam_steps")]
        if ent_coef != "auto":
            self._state[0].fill_(math.log(ent_coef) if ent_coef > 0 else -math.inf)
        self._target = torch.tensor(target, dtype=torch.float64).unsqueeze(1).to(device)
        self._rates = torch.zeros(len(members), dtype=torch.float64).to(device)
        self._lr = np.zeros(len(members))
        network = torch.arange(len(self._keys)).repeat_interleave(torch.tensor(self._agents))
        self._network = network.to(device)  # (N,) of each agent, in the order of critics

    def set_rates(self, lr: NDArray[np.float64]) -> None:
        """Set the learning rates, one a member of the population, for the steps that follow."""
        if (self._lr != lr).any():
            self._lr = np.array(lr)
            self._rates.copy_(torch.from_numpy(self._lr), non_blocking=True)

    def of(self, members: Tensor | None) -> Tensor:
        """Return the temperature of each agent's policy, (N, M) in the order of critics.

        Args:
            members: (M,) positions in the population; None: all.
        """
        log_alpha = self._state[0] if members is None else self._state[0].index_select(1, members)
        return log_alpha.exp().index_select(0, self._network)

    def learn(self, log_prob: Tensor, weight: Tensor, members: Tensor | None) -> None:
        """Make one Adam step of the temperatures of M members.

        Args:
            log_prob: (N, M, B) of actions that the policies have just sampled.
            weight: (N, M, B), which sum to 1 over the samples of a network, or to 0 where it has none.
            members: As for `of`.
        """
        parts = weight.split_with_sizes(self._agents), log_prob.split_with_sizes(self._agents)
        gradient = torch.stack(
            [
                # Along one axis of memory of its own, which rounds alike for any number of members.
                -(w * (x + target)).double().sum(-1).t().contiguous().sum(-1)
                for w, x, target in zip(*parts, self._target, strict=True)
            ]
        )
        state = self._state if members is None else [x.index_select(1, members) for x in self._state]
        rates = self._rates if members is None else self._rates.index_select(0, members)
        log_alpha, first, second, steps = state
        steps = steps + 1
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient * gradient
        # 1 - beta^t
        mean, square = (x / -torch.expm1(steps * math.log(b)) for x, b in zip((first, second), BETAS, strict=True))
        log_alpha = log_alpha - rates * mean / (square.sqrt() + EPS)
        for kept, moved in zip(self._state, (log_alpha, first, second, steps), strict=True):
            if members is None:
                kept.copy_(moved)
            else:
                kept.index_copy_(1, members, moved)

    def means(self) -> list[float]:
        """Return each member's mean temperature; waits for the device."""
        means: list[float] = self._state[0].exp().mean(0).tolist()
        return means

    def unpack(self) -> None:
        """Write learned temperatures and Adam's state into the members' policies."""
        if not self.learned:
            return
        log_alpha, first, second, steps = (x.tolist() for x in self._state)
        for k, key in enumerate(self._keys):
            for m, member in enumerate(self._members):
                member.networks[key].temperature = Temperature(
                    log_alpha[k][m], first[k][m], second[k][m], int(steps[k][m])
                )
