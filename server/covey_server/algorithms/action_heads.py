"""Maps actors' outputs to the actions that critics see, agents side by side.

Numbers of a Box lie in [-1, 1], a choice is one-hot, a switch is 0 or 1. Of an agent with a choice of three values (its
logits 2, 0 and 1) and two switches (their logits -1 and 3), the greedy action is 1, 0, 0, 0, 1.

Dims: M members, B samples, A width of all agents' actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from covey.spaces import EnvironmentSpaces
from covey.spaces.components import Component, Decides, components
from covey_server.packing import counter_rng

_Kind = tuple[Decides, int]
"""How components are decided, and of choices how many values they have: components of a kind are mapped together."""


def squash(x: Tensor) -> Tensor:
    """Map outputs to [-1, 1] by tanh(x / 2), the logistic function stretched to that range.

    Half as steep as tanh: with it, policies of high learning rate saturated early and stayed where they were.
    """
    return torch.tanh(0.5 * x)


class Draws(NamedTuple):
    """Random numbers for the actions of policies, (members, samples, action numbers) each; None where not needed.

    Attributes:
        gaussian: For numbers of a Box.
        gumbel: For choices: the largest logit plus Gumbel noise is a sample of their softmax.
        logistic: For switches: their logit plus logistic noise is positive with the probability sigmoid(logit).
    """

    gaussian: Tensor | None
    gumbel: Tensor | None
    logistic: Tensor | None


_Map = Callable[[Tensor, slice], Tensor]


class _Maps(NamedTuple):
    """How components of each kind are mapped: from their outputs and the columns where these lie.

    Attributes:
        numbers: From outputs (..., width) of numbers of a Box to their values.
        choices: From logits (..., choices, values) to one-hot vectors of the same shape.
        switches: From logits (..., width) of switches to 0 or 1.
    """

    numbers: _Map
    choices: _Map
    switches: _Map


class ActionHeads:
    """Maps the outputs of all agents' actors to actions.

    Components of one kind are mapped together, whichever agents' they are.

    Args:
        spaces: Spaces of the environment.
        device: Where updates are computed.
    """

    def __init__(self, spaces: EnvironmentSpaces, device: torch.device) -> None:
        parts = [part for agent in spaces.agents for part in components(agent.action)]
        self._width = sum(part.outputs for part in parts)
        kinds = [_kind(part) for part in parts]
        self._uses = {decides for decides, _ in kinds}
        # Where components of a kind are no neighbours, columns are brought into an order in which they are, and back.
        self._order = self._back = None
        columns = torch.arange(self._width).split_with_sizes([part.outputs for part in parts])
        if len(list(groupby(kinds))) > len(set(kinds)):
            by_kind = sorted(range(len(parts)), key=lambda i: list(dict.fromkeys(kinds)).index(kinds[i]))
            parts = [parts[i] for i in by_kind]
            order = torch.cat([columns[i] for i in by_kind])
            self._order, self._back = order.to(device), order.argsort().to(device)
        self._runs = [(kind, sum(part.outputs for part in alike)) for kind, alike in groupby(parts, key=_kind)]
        self._values = {n: torch.arange(n, device=device) for decides, n in kinds if decides is Decides.CHOICE}

    def greedy(self, outputs: Sequence[Tensor], legal: Tensor | None = None) -> Tensor:
        """Return the deterministic joint action (..., M, B, A).

        Numbers of a Box are squashed, choices take the largest legal logit, switches with a positive logit are on. M
        members, B samples, A numbers of all agents' actions.

        Args:
            outputs: (..., M, B, outputs) of each agent.
            legal: (..., M, B, A), false for values of choices that are forbidden.
        """
        maps = _Maps(lambda x, _: squash(x), lambda x, _: self._one_hot(x), lambda x, _: _on(x))
        return self._map(torch.cat(list(outputs), -1), legal, maps)

    def target_draws(self, keys: Tensor, samples: int) -> Draws:
        """Draw the random numbers for target-policy smoothing; apart from it, as torch.compile cannot compute them."""
        return self._draws("target", keys, samples, gaussian="target_noise")

    def policy_draws(self, keys: Tensor, samples: int) -> Draws:
        """Draw the random numbers for `differentiable`."""
        return self._draws("policy", keys, samples)

    def smoothed(
        self, outputs: Sequence[Tensor], draws: Draws, noise: float, clip: float, legal: Tensor | None = None
    ) -> Tensor:
        """Return target policies' smoothed joint action: clipped noise on numbers of a Box, samples of all others."""
        gaussian, gumbel, logistic = self._ordered(draws)

        def numbers(x: Tensor, at: slice) -> Tensor:
            assert gaussian is not None
            return (squash(x) + (gaussian[..., at] * noise).clamp_(-clip, clip)).clamp_(-1, 1)

        def choices(x: Tensor, at: slice) -> Tensor:
            assert gumbel is not None
            return self._one_hot(x + gumbel[..., at].reshape(x.shape[-4:]))

        def switches(x: Tensor, at: slice) -> Tensor:
            assert logistic is not None
            return _on(x + logistic[..., at])

        return self._map(torch.cat(list(outputs), -1), legal, _Maps(numbers, choices, switches))

    def differentiable(self, outputs: Tensor, draws: Draws, legal: Tensor | None = None) -> Tensor:
        """Return the joint action for the policy gradient: squashed numbers of a Box, straight-through samples.

        The value of a choice is a one-hot sample, its gradient that of the softmax that it is a sample of
        (straight-through Gumbel-softmax); of a switch likewise, with the logistic function as the softmax of 0 and its
        logit. The temperature is 1; the shape is (M, B, A): M members, B samples, A numbers of all agents' actions.

        Args:
            outputs: (M, B, A), of all agents side by side.
            draws: Random numbers that `policy_draws` gave.
            legal: As for `greedy`.
        """
        _, gumbel, logistic = self._ordered(draws)

        def choices(x: Tensor, at: slice) -> Tensor:
            assert gumbel is not None
            perturbed = x + gumbel[..., at].reshape(x.shape)
            return _straight_through(self._one_hot(perturbed), torch.softmax(perturbed, -1))

        def switches(x: Tensor, at: slice) -> Tensor:
            assert logistic is not None
            perturbed = x + logistic[..., at]
            return _straight_through(_on(perturbed), torch.sigmoid(perturbed))

        return self._map(outputs, legal, _Maps(lambda x, _: squash(x), choices, switches))

    def _map(self, joint: Tensor, legal: Tensor | None, maps: _Maps) -> Tensor:
        if legal is not None:
            # Before anything is drawn or weighed: a forbidden value has probability and gradient 0, exactly.
            joint = joint.masked_fill(~legal, -torch.inf)
        if self._order is not None:
            joint = joint.index_select(-1, self._order)
        mapped, at = [], 0
        for (decides, values), width in self._runs:
            columns = slice(at, at + width)
            x = joint if len(self._runs) == 1 else joint[..., columns]
            match decides:
                case Decides.CHOICE:
                    # (..., M, B, choices, values): those of equally many values are made together.
                    mapped.append(maps.choices(x.reshape(*x.shape[:-1], -1, values), columns).flatten(-2))
                case Decides.SWITCHES:
                    mapped.append(maps.switches(x, columns))
                case Decides.NUMBERS:
                    mapped.append(maps.numbers(x, columns))
            at += width
        y = mapped[0] if len(mapped) == 1 else torch.cat(mapped, -1)
        return y if self._back is None else y.index_select(-1, self._back)

    def _one_hot(self, logits: Tensor) -> Tensor:
        """Return the one-hot vectors of the largest logits, (..., values)."""
        return (logits.argmax(-1, keepdim=True) == self._values[logits.shape[-1]]).to(logits.dtype)

    def _draws(self, stream: str, keys: Tensor, samples: int, gaussian: str | None = None) -> Draws:
        """Draw what these kinds of component need; a sample's draws do not depend on how many samples there are."""

        def draw(of: Callable[[Tensor, str, int], Tensor], name: str | None, decides: Decides) -> Tensor | None:
            if name is None or decides not in self._uses:
                return None
            return of(keys, name, samples * self._width).view(len(keys), samples, self._width)

        return Draws(
            draw(counter_rng.normal, gaussian, Decides.NUMBERS),
            draw(counter_rng.gumbel, f"{stream}_gumbel", Decides.CHOICE),
            draw(counter_rng.logistic, f"{stream}_logistic", Decides.SWITCHES),
        )

    def _ordered(self, draws: Draws) -> Draws:
        """Bring the columns of random numbers into the order in which components are mapped."""
        order = self._order
        if order is None:
            return draws
        return Draws(*(None if x is None else x.index_select(-1, order) for x in draws))


def _kind(part: Component) -> _Kind:
    return part.decides, part.outputs if part.decides is Decides.CHOICE else 0


def _on(logits: Tensor) -> Tensor:
    """Return 1 for switches that are on, as their logit is positive, and 0 for others."""
    return (logits > 0).to(logits.dtype)


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return a tensor with the values of `hard` and the gradient of `soft`: soft - soft.detach() is 0."""
    return hard + (soft - soft.detach())
