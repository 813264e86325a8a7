"""Lists what covey uses of torch that torch does not promise to keep, so that it can be looked for before it is used.

Every row says what is used, where, and what follows if a torch is without it. `torch` in the extra `learner` has an
upper bound for the same reason: these are known to be there below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Private:
    """A private name of torch that covey uses.

    Attributes:
        name: As it is used.
        where: Which file uses it, and what for.
        find: Gives it, or raises AttributeError, ImportError or IndexError.
    """

    name: str
    where: str
    find: Callable[[], Any]

    def missing(self) -> bool:
        """Whether the installed torch lacks this private function."""
        try:
            self.find()
        except (AttributeError, ImportError, IndexError):
            return True
        return False


def _dispatch() -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    return TorchDispatchMode.__torch_dispatch__


def _overload() -> Any:
    return torch.ops.aten.add.out


def _dynamo() -> Any:
    return __import__("torch._dynamo.config", fromlist=["config"])


ALWAYS = (Private("torch._fused_adam_", "optimiser: Adam on runs of rows", lambda: torch._fused_adam_),)  # pyright: ignore[reportPrivateImportUsage]
"""What every backend needs."""

CAPTURING = (
    Private("torch.utils._python_dispatch.TorchDispatchMode", "trace: sees operations below autograd", _dispatch),
    Private("UntypedStorage._cdata", "trace: tells memory apart", lambda: torch.empty(1).untyped_storage()._cdata),
    Private("OpOverload._schema.is_mutable", "trace: what works in place", lambda: _overload()._schema.is_mutable),
    Private(
        "Argument.alias_info.is_write",
        "trace: which arguments are changed",
        lambda: _overload()._schema.arguments[-1].alias_info.is_write,
    ),
)
"""What recordings and CUDA graphs need. Also `TorchDispatchMode._should_skip_dynamo` (trace): without it a trace would
import torch.compile's machinery, which takes seconds and changes nothing."""

RECORDING = (
    *CAPTURING,
    Private("torch.Tag.pointwise", "placement: what may overwrite its argument", lambda: torch.Tag.pointwise),
    Private("OpOverload.tags", "placement: as above", lambda: _overload().tags),
    Private(
        "Argument.is_out", "operators: finds overloads with out=", lambda: _overload()._schema.arguments[-1].is_out
    ),
    Private(
        "OpOverload.overloadpacket.overloads()", "operators: as above", lambda: _overload().overloadpacket.overloads()
    ),
    Private("OpOverload._overloadname", "operators: one overload of sum", lambda: _overload()._overloadname),
)
"""What recordings need."""

COMPILING = (
    Private("torch._dynamo.config.recompile_limit", "compiled: shapes per function", lambda: _dynamo().recompile_limit),
    Private(
        "torch._dynamo.config.trace_autograd_ops",
        "compiled: gradients within a compiled function",
        lambda: _dynamo().trace_autograd_ops,
    ),
)
"""What torch.compile is told."""


@cache
def missing(names: Sequence[Private]) -> tuple[str, ...]:
    """Return the names of those private functions of torch that the installed torch lacks."""
    return tuple(private.name for private in names if private.missing())
