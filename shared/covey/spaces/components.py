"""What an action is made of: components that are decided each by itself, and the policy outputs that decide them.

A MultiDiscrete of 2 and 3 values, for example, is two choices, decided by the first two and the last three of five
outputs. Of an action that is a dictionary or a tuple, the components of its leaves follow each other. Networks see an
action in as many numbers as there are outputs for it: a choice as its one-hot vector, a switch as 0 or 1, a number of a
Box in units of its range mapped to [-1, 1].
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covey.spaces.kinds import Box, Discrete, LeafSpace, MultiBinary, MultiDiscrete, Space, leaves


class Decides(enum.Enum):
    """How outputs of a policy decide a component of an action."""

    NUMBERS = "numbers"
    """Each output is a number of a Box."""
    CHOICE = "choice"
    """The outputs are the logits of the values of one choice."""
    SWITCHES = "switches"
    """Each output is the logit of one switch being on."""


class Component(NamedTuple):
    """Part of an action that is decided as a whole, or, of numbers and switches, several that are neighbours.

    Attributes:
        decides: How.
        outputs: How many outputs of a policy it takes.
    """

    decides: Decides
    outputs: int


def components(action: Space) -> tuple[Component, ...]:
    """Return the components of an action, leaf after leaf, in the order of the policy outputs that decide them."""
    return tuple(part for leaf in leaves(action) for part in _components(leaf.space))


def _components(action: LeafSpace) -> tuple[Component, ...]:
    """Return the components of an action that is no tree."""
    match action:
        case Discrete(n):
            return (Component(Decides.CHOICE, n),)
        case MultiDiscrete(nvec):
            return tuple(Component(Decides.CHOICE, n) for n in nvec)
        case MultiBinary(n):
            return (Component(Decides.SWITCHES, n),)
        case Box():
            return (Component(Decides.NUMBERS, action.width),)


def first_values(action: Discrete | MultiDiscrete) -> NDArray[np.int64]:
    """Return the lowest value of each choice, (choices,)."""
    return np.array(action.start if isinstance(action, MultiDiscrete) else [action.start])


def choice_of_output(action: LeafSpace) -> NDArray[np.intp]:
    """Return for each output of a policy which of the action's choices it belongs to, (outputs,); of a Box, zeros.

    For example 0, 0, 1, 1, 1 for a MultiDiscrete of 2 and 3 values, and 0, 1, 2 for three switches.
    """
    sizes = [
        size
        for part in components(action)
        for size in ((1,) * part.outputs if part.decides is Decides.SWITCHES else (part.outputs,))
    ]
    return np.repeat(np.arange(len(sizes)), sizes)
