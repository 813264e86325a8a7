"""Computes gradients through torch.compile, at padded shapes that most mutations of a network leave as they are.

What is compiled is everything between a batch and the gradients of it. Draws stay outside, as Inductor cannot index
with 64-bit numbers, and so do Adam and soft updates, which change the packs.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from covey_server.packing.updates.backend import Step, UpdateBackend
from covey_server.packing.updates.comparison import same

logger = logging.getLogger("covey.learner")

MAX_SHAPES = 64
"""Populations whose shapes differ more often than that go on uncompiled."""

BACKEND = "inductor"

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Compiled(UpdateBackend):
    """Runs updates with gradient functions that torch.compile compiled, once for each shape; all else runs eagerly.

    A mutation adds or removes 16 to 64 units of a layer: padded to multiples of 32, most populations have shapes that
    were compiled before.
    """

    multiple = 32
    cut = False

    def pure(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        """Return the function compiled; if its first results differ from eager ones, it stays eager."""
        settings: Any = torch._dynamo.config
        settings.recompile_limit = MAX_SHAPES
        settings.trace_autograd_ops = True
        return _checked(function, torch.compile(function, dynamic=False, fullgraph=True, backend=BACKEND))

    def run(self, key: Hashable, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Call a step of an update; the key is not used, as torch.compile keeps a cache of its own."""
        del key
        return step(*inputs)


def _checked(function: Callable[_P, _T], compiled: Callable[_P, _T]) -> Callable[_P, _T]:
    """Wrap a compiled function: where its first results differ from eager ones, the function stays eager."""
    chosen: Callable[_P, _T] | None = None  # until the first call

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        nonlocal chosen
        if chosen is not None:
            return chosen(*args, **kwargs)
        results, expected = compiled(*args, **kwargs), function(*args, **kwargs)
        if same(_tensors(results), _tensors(expected), exact=False):
            chosen = compiled
            return results
        chosen = function
        logger.warning(
            "learner.updates: what torch %s compiles does not compute what its source says: updates are eager from now "
            "on; write learner.updates: eager, or install a torch that covey was tested with",
            torch.__version__,
        )
        return expected

    return checked


def _tensors(values: Any) -> list[Tensor]:
    """Return all tensors in nested lists and tuples, in order."""
    if isinstance(values, Tensor):
        return [values]
    return [x for value in values for x in _tensors(value)] if isinstance(values, list | tuple) else []
