"""Maps actors' outputs to the actions that critics see: Box in [-1, 1], Discrete one-hot, agents side by side.

Dims: M members, B samples, A width of all agents' actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from covey.spaces import Discrete, EnvironmentSpaces
from covey_server.packing import counter_rng

_BoxMap = Callable[[Tensor, slice], Tensor]
_DiscreteMap = Callable[[Tensor, slice, int], Tensor]


def squash(x: Tensor) -> Tensor:
    """Map outputs to [-1, 1] by tanh(x / 2), the logistic function stretched to that range.

    Half as steep as tanh: with it, policies of high learning rate saturated early and stayed where they were.
    """
    return torch.tanh(0.5 * x)


class Draws(NamedTuple):
    """Random numbers for target-policy smoothing, (members, samples, action numbers) each; None where not needed."""

    gaussian: Tensor | None
    gumbel: Tensor | None


class ActionHeads:
    """Maps the outputs of all agents' actors to actions.

    Neighbouring agents with one kind of action are mapped together.
    """

    def __init__(self, spaces: EnvironmentSpaces, device: torch.device) -> None:
        kinds = [a.action.n if isinstance(a.action, Discrete) else 0 for a in spaces.agents]
        widths = [a.action.width for a in spaces.agents]
        self._width = sum(widths)
        self._runs = []  # (columns, number of values or 0 for Box)
        for values, agents in groupby(range(len(kinds)), key=lambda i: kinds[i]):
            self._runs.append((sum(widths[i] for i in agents), values))
        self._discrete = any(kinds)
        self._box = not all(kinds)
        self._values = {n: torch.arange(n, device=device) for n in set(kinds)}

    def greedy(self, outputs: Sequence[Tensor], legal: Tensor | None = None) -> Tensor:
        """Return the deterministic joint action (..., M, B, A): squashed for Box, the largest legal logit for Discrete.

        M members, B samples, A numbers of all agents' actions.

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

    def target_draws(self, keys: Tensor, samples: int) -> Draws:
        """Draw the random numbers for target-policy smoothing; apart from it, as torch.compile cannot compute them."""
        return Draws(
            self._draw(counter_rng.normal, "target_noise", keys, samples) if self._box else None,
            self._draw(counter_rng.gumbel, "target_gumbel", keys, samples) if self._discrete else None,
        )

    def policy_draws(self, keys: Tensor, samples: int) -> Tensor | None:
        """Draw Gumbel noise for `differentiable`, (members, samples, action numbers).

        None where no action is Discrete.
        """
        return self._draw(counter_rng.gumbel, "policy_gumbel", keys, samples) if self._discrete else None

    def smoothed(
        self, outputs: Sequence[Tensor], draws: Draws, noise: float, clip: float, legal: Tensor | None = None
    ) -> Tensor:
        """Return target policies' smoothed joint action: clipped noise on Box actions, a sample of Discrete ones."""

        def box(x: Tensor, at: slice) -> Tensor:
            assert draws.gaussian is not None
            return (squash(x) + (draws.gaussian[..., at] * noise).clamp_(-clip, clip)).clamp_(-1, 1)

        def discrete(x: Tensor, at: slice, n: int) -> Tensor:
            assert draws.gumbel is not None
            return self._one_hot(x + draws.gumbel[..., at].reshape(x.shape[-4:]), n)

        return self._join(outputs, legal, box, discrete)

    def differentiable(self, outputs: Tensor, gumbel: Tensor | None, legal: Tensor | None = None) -> Tensor:
        """Return the joint action for the policy gradient: squashed Box, straight-through Gumbel-softmax for Discrete.

        The temperature is 1; the shape is (M, B, A): M members, B samples, A numbers of all agents' actions.

        Args:
            outputs: (M, B, A), of all agents side by side.
            gumbel: Random numbers that `policy_draws` gave.
            legal: As for `greedy`.
        """

        def discrete(x: Tensor, at: slice, n: int) -> Tensor:
            assert gumbel is not None
            # The value is the one-hot sample, the gradient that of the softmax: soft - soft.detach() is 0.
            perturbed = x + gumbel[..., at].reshape(x.shape)
            soft = torch.softmax(perturbed, -1)
            return self._one_hot(perturbed, n) + (soft - soft.detach())

        return self._map(outputs, legal, lambda x, _: squash(x), discrete)

    def _join(self, outputs: Sequence[Tensor], legal: Tensor | None, box: _BoxMap, discrete: _DiscreteMap) -> Tensor:
        return self._map(torch.cat(list(outputs), -1), legal, box, discrete)

    def _map(self, joint: Tensor, legal: Tensor | None, box: _BoxMap, discrete: _DiscreteMap) -> Tensor:
        if legal is not None:
            # Before anything is drawn or weighed: a forbidden action has probability and gradient 0, exactly.
            joint = joint.masked_fill(~legal, -torch.inf)
        mapped, at = [], 0
        for width, values in self._runs:
            columns = slice(at, at + width)
            x = joint if len(self._runs) == 1 else joint[..., columns]
            if values:
                # (..., M, B, agents, values): the agents of a run choose together.
                chosen = discrete(x.reshape(*x.shape[:-1], -1, values), columns, values)
                mapped.append(chosen.flatten(-2))
            else:
                mapped.append(box(x, columns))
            at += width
        return mapped[0] if len(mapped) == 1 else torch.cat(mapped, -1)

    def _one_hot(self, logits: Tensor, n: int) -> Tensor:
        return (logits.argmax(-1, keepdim=True) == self._values[n]).to(logits.dtype)

    def _draw(self, draw: Callable[[Tensor, str, int], Tensor], stream: str, keys: Tensor, samples: int) -> Tensor:
        """Draw (members, samples, action numbers); a sample's draws do not depend on how many samples there are."""
        return draw(keys, stream, samples * self._width).view(len(keys), samples, self._width)
