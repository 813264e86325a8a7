"""`learner.compile`: gradients through torch.compile, at shapes that most mutations leave as they are.

What is compiled is everything between a batch and the gradients of it; draws, Adam and soft updates stay outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from covey.config import Config

MULTIPLE = 32
"""Of what widths and batches are padded to: a mutation adds or removes 16 to 64 units."""

MAX_SHAPES = 64
"""Populations whose shapes differ more often than that go on uncompiled."""

BACKEND = "inductor"

_P = ParamSpec("_P")
_T = TypeVar("_T")


def padding_of(config: Config) -> int:
    """Of what sizes become multiples."""
    return MULTIPLE if config.learner.compile else 1


def compiled(gradients: Callable[_P, _T], config: Config) -> Callable[_P, _T]:
    """The function, compiled for each shape it meets, where the run is configured so."""
    if not config.learner.compile:
        return gradients
    settings: Any = torch._dynamo.config
    settings.recompile_limit = MAX_SHAPES
    settings.trace_autograd_ops = True
    return torch.compile(gradients, dynamic=False, fullgraph=True, backend=BACKEND)
