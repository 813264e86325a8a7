"""The PPO policies and value networks that are stacked in one pack, policies first.

Dims: R pairs of a policy and a value (network ids, each for the members due in turn); K networks of the pack, A
policies and C values among them; B decisions each, O outputs of the widest policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from covey_server.algorithms.agent_types import AgentType
from covey_server.algorithms.distributions import LogProbs
from covey_server.packing.pack_rows import PackRows


class ActorCriticRows:
    """Stacked policies and value networks, and for each of them which policy goes with which value network.

    Example: two network ids and the members 3 and 5 due make the pairs 0 (first id, 3), 1 (first id, 5), 2 (second id,
    3) and 3 (second id, 5).

    Args:
        rows: The rows of the pack.
        group: The types of agents whose networks they are.
        due: The members that learn; pairs are counted over all of them.

    Attributes:
        rows: The rows of the pack.
        policies: For each of the A policies, its pair.
        values: For each of the C value networks, its pair.
        members: For each of the K networks, its member's position in the population.
        recurrent: Whether they are policies with memory.
    """

    def __init__(self, rows: PackRows, group: Sequence[AgentType], due: tuple[int, ...]) -> None:
        by_id = [own for own in group for _ in own.ids]
        ids = len(by_id)
        # Keys are all policies, then all values, in the order of ids.
        pairs = [(k, k % ids * len(due) + due.index(m)) for k, m in rows.owners.pairs]
        self.rows = rows
        self.policies = [pair for k, pair in pairs if k < ids]
        self.values = [pair for k, pair in pairs if k >= ids]
        self.members = [m for _, m in rows.owners.pairs]
        self.recurrent = rows.pack.spec.state_size > 0
        self._runs: list[tuple[slice, AgentType]] = []  # policies that are neighbours and of one type
        at = 0
        for _, run in groupby((by_id[k] for k, _ in rows.owners.pairs if k < ids), key=id):
            alike = list(run)
            self._runs.append((slice(at, at + len(alike)), alike[0]))
            at += len(alike)

    def log_std(self) -> Tensor | None:
        """Return the log standard deviations of Gaussian policies, (networks, 1, outputs).

        None where there are none.
        """
        return self.rows.log_std(self.rows.index.take(self.rows.pack.params))

    def log_probs(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> LogProbs:
        """Compute log-probabilities of actions under the policies, with a function for their gradients.

        A of the K stacked networks are policies; B decisions each, O outputs.

        Args:
            outputs: (K, B, O), the policies' first.
            log_std: As `log_std` gives it.
            action: (A, B, O), encoded as numbers.
            mask: (A, B, O), or None where no agent of the group has masks.
        """
        found: list[LogProbs] = []
        for at, own in self._runs:
            columns = (at, slice(None), slice(own.action.width))
            free = None if log_std is None else log_std[at, 0, : own.action.width]
            legal = mask[columns] if mask is not None and own.masked else None
            found.append(own.distribution.log_probs(outputs[columns], free, action[columns], legal))

        def backward(grad_log_prob: Tensor, grad_entropy: Tensor) -> tuple[Tensor, Tensor | None]:
            grad_outputs = torch.zeros_like(outputs)
            grad_log_std = None if log_std is None else torch.zeros_like(log_std)
            for (at, own), its in zip(self._runs, found, strict=True):
                grad_own, grad_free = its.backward(grad_log_prob[at], grad_entropy[at])
                grad_outputs[at, :, : own.action.width] = grad_own
                if grad_log_std is not None and grad_free is not None:
                    grad_log_std[at, 0, : own.action.width] = grad_free
            return grad_outputs, grad_log_std

        none = outputs[:0, :, 0]  # where the pack has values alone
        log_prob, entropy = (
            x[0] if len(x) == 1 else torch.cat([none, *x])
            for x in ([its.log_prob for its in found], [its.entropy for its in found])
        )
        return LogProbs(log_prob, entropy, backward)
