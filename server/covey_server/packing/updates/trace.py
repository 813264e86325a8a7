"""Notes what a function does to tensors, operation by operation, seen below autograd."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Described = tuple[Any, tuple[Any, ...], tuple[tuple[str, Any], ...]]
"""An operator and what Python gave it: its arguments, with None for every tensor."""


@dataclass
class Operation:
    """One call of a torch operator, with its arguments and results, as a trace saw it.

    Attributes:
        function: An overload of an operator, such as `torch.ops.aten.mul.Tensor`.
        args: Positional arguments, tensors among them.
        kwargs: Arguments by name.
        read: All tensors among the arguments.
        results: The tensors that it returned.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    read: list[Tensor]
    results: list[Tensor]

    @property
    def in_place(self) -> bool:
        """Whether the operator changes some of its arguments and returns nothing else."""
        return bool(self.function._schema.is_mutable)

    def written(self) -> list[Tensor]:
        """Return the tensors among the arguments that the operator changes."""
        found: list[Tensor] = []
        for i, argument in enumerate(self.function._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = self.args[i] if i < len(self.args) else self.kwargs.get(argument.name)
                found += tensors_in((value,))
        return found

    def described(self) -> Described:
        """Return the operator and its arguments that are no tensors; equal for calls that do the same."""
        return self.function, _plain(self.args), tuple((k, _plain(v)) for k, v in sorted(self.kwargs.items()))


class Trace(TorchDispatchMode):
    """A context in which every torch operation is noted; the operations happen as usual.

    Operations hold their tensors, so that none of the memory seen is given to another tensor meanwhile.

    Attributes:
        operations: In order; views are left out, as they compute nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell torch not to wrap this class with torch.compile's machinery, whose import takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        operation = Operation(func, args, kwargs, tensors_in((*args, *kwargs.values())), tensors_in((results,)))
        # A view is where its argument is; what else has no result of its own is noted for what it changes.
        if operation.in_place or not {storage(x) for x in operation.results} & {storage(x) for x in operation.read}:
            self.operations.append(operation)
        return results

    def described(self) -> tuple[Described, ...]:
        """Return all operators with their arguments that are no tensors; equal for traces that compute the same."""
        return tuple(operation.described() for operation in self.operations)

    def changed(self) -> list[Tensor]:
        """Return the memory that traced operations changed and had not allocated themselves, flat, once per storage."""
        made = {storage(x) for operation in self.operations if not operation.in_place for x in operation.results}
        found = {storage(x): x for operation in self.operations if operation.in_place for x in operation.written()}
        return [_memory_of(x) for key, x in found.items() if key not in made]

    def outside(self) -> list[Tensor]:
        """Return the tensors that the traced operations read or changed but had not made themselves."""
        made = {storage(x) for operation in self.operations if not operation.in_place for x in operation.results}
        found = {id(x): x for operation in self.operations for x in operation.read if storage(x) not in made}
        return list(found.values())


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among an operator's arguments or results, also those in lists; other values are left out."""
    return [x for value in values for x in _flat(value) if isinstance(x, Tensor)]


def storage(x: Tensor) -> int:
    """Return a number that identifies a tensor's memory; tensors that share it are views of each other."""
    return int(x.untyped_storage()._cdata)


def _flat(value: Any) -> Sequence[Any] | Iterator[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _plain(value: Any) -> Any:
    """Replace every tensor in an argument by None, in nested lists too, so that arguments can be compared."""
    if isinstance(value, list | tuple):
        return tuple(_plain(x) for x in value)
    return None if isinstance(value, Tensor) else value


def _memory_of(x: Tensor) -> Tensor:
    """Return the whole storage that a tensor is a view of, flat, in the tensor's dtype."""
    return torch.empty(0, dtype=x.dtype, device=x.device).set_(x.untyped_storage())
