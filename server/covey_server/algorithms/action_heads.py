"""From actors' outputs to the actions that critics see: Box in [-1, 1], Discrete one-hot, agents side by side.

Dims: M members, B samples, A width of all agents' actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from covey.spaces import Discrete, EnvironmentSpaces
from covey_server import counter_rng

_BoxMap = Callable[[Tensor, slice], Tensor]
_DiscreteMap = Callable[[Tensor, slice, int], Tensor]


def squash(x: Tensor) -> Tensor:
    """Outputs to [-1, 1]: tanh(x / 2), which is the logistic function stretched to that range.

    Half as steep as tanh: with it, policies of high learning rate saturated early and stayed where they were.
    """
    return torch.tanh(0.5 * x)


class ActionHeads:
    """Output mappings of all agents, in environment order; neighbours of one kind are mapped together."""

    def __init__(self, spaces: EnvironmentSpaces, device: torch.device) -> None:
        kinds = [a.action.n if isinstance(a.action, Discrete) else 0 for a in spaces.agents]
        widths = [a.action.width for a in spaces.agents]
        self._runs = []  # (columns, number of values or 0 for Box)
        for values, agents in groupby(range(len(kinds)), key=lambda i: kinds[i]):
            self._runs.append((sum(widths[i] for i in agents), values))
        self._discrete = any(kinds)
        self._box = not all(kinds)
        self._values = {n: torch.arange(n, device=device) for n in set(kinds)}

    def greedy(self, outputs: Sequence[Tensor], legal: Tensor | None = None) -> Tensor:
        """Without chance: squashed for Box, the largest legal logit for Discrete; (..., M, B, A).

        Args:
            outputs: (..., M, B, outputs) of each agent.
            legal: (..., M, B, A), false for Discrete actions that are forbidden.
        """
        return self._join(
            outputs,
            legal,
            lambda x, _: squash(x),
            lambda x, _, n: self._one_hot(x, n),
        )

    def smoothed(
        self, outputs: Sequence[Tensor], keys: Tensor, noise: float, clip: float, legal: Tensor | None = None
    ) -> Tensor:
        """Target-policy smoothing: clipped Gaussian noise on Box actions, a sample of Discrete ones; (..., M, B, A)."""
        gaussian = self._draw(counter_rng.normal, "target_noise", outputs, keys) if self._box else None
        gumbel = self._draw(counter_rng.gumbel, "target_gumbel", outputs, keys) if self._discrete else None

        def box(x: Tensor, at: slice) -> Tensor:
            assert gaussian is not None
            return (squash(x) + (gaussian[..., at] * noise).clamp_(-clip, clip)).clamp_(-1, 1)

        def discrete(x: Tensor, at: slice, n: int) -> Tensor:
            assert gumbel is not None
            return self._one_hot(x + gumbel[..., at].reshape(x.shape[-4:]), n)

        return self._join(outputs, legal, box, discrete)

    def differentiable(self, outputs: Sequence[Tensor], keys: Tensor, legal: Tensor | None = None) -> Tensor:
        """For the policy gradient: squashed Box, straight-through Gumbel-softmax (tau 1) for Discrete; (M, B, A)."""
        gumbel = self._draw(counter_rng.gumbel, "policy_gumbel", outputs, keys) if self._discrete else None

        def discrete(x: Tensor, at: slice, n: int) -> Tensor:
            assert gumbel is not None
            perturbed = x + gumbel[..., at].reshape(x.shape)
            soft = torch.softmax(perturbed, -1)
            return self._one_hot(perturbed, n) + (soft - soft.detach())

        return self._join(outputs, legal, lambda x, _: squash(x), discrete)

    def _join(self, outputs: Sequence[Tensor], legal: Tensor | None, box: _BoxMap, discrete: _DiscreteMap) -> Tensor:
        joint = torch.cat(list(outputs), -1)
        if legal is not None:
            # Before anything is drawn or weighed: a forbidden action has probability and gradient 0, exactly.
            joint = joint.masked_fill(~legal, -torch.inf)
        parts, at = [], 0
        for width, values in self._runs:
            columns = slice(at, at + width)
            x = joint if len(self._runs) == 1 else joint[..., columns]
            if values:
                # (..., M, B, agents, values): the agents of a run choose together.
                chosen = discrete(x.reshape(*x.shape[:-1], -1, values), columns, values)
                parts.append(chosen.flatten(-2))
            else:
                parts.append(box(x, columns))
            at += width
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _one_hot(self, logits: Tensor, n: int) -> Tensor:
        return (logits.argmax(-1, keepdim=True) == self._values[n]).to(logits.dtype)

    @staticmethod
    def _draw(
        draw: Callable[[Tensor, str, int], Tensor], stream: str, outputs: Sequence[Tensor], keys: Tensor
    ) -> Tensor:
        """(M, B, A) numbers, of which a sample's do not depend on the number of samples, or of rows looked at."""
        m, b = outputs[0].shape[-3:-1]
        width = sum(x.shape[-1] for x in outputs)
        return draw(keys, stream, b * width).view(m, b, width)
