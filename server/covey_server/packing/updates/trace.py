"""What a step does to tensors, operation by operation, seen below autograd."""

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
    """A call as it was made.

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
        """Whether it changes arguments, and returns nothing else."""
        return bool(self.function._schema.is_mutable)

    def written(self) -> list[Tensor]:
        """The tensors among the arguments that it changes."""
        found: list[Tensor] = []
        for i, argument in enumerate(self.function._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = self.args[i] if i < len(self.args) else self.kwargs.get(argument.name)
                found += tensors_in((value,))
        return found

    def described(self) -> Described:
        """The operator and its Python arguments; equal for calls that do the same."""
        return self.function, _plain(self.args), tuple((k, _plain(v)) for k, v in sorted(self.kwargs.items()))


class Trace(TorchDispatchMode):
    """Notes every operation while it is entered, and lets it happen.

    Operations hold their tensors, so that none of the memory seen is given to another tensor meanwhile.

    Attributes:
        operations: In order; views are left out, as they compute nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not to be wrapped by what imports torch.compile's machinery meanwhile."""
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
        """The operators in order with their arguments that are no tensors; equal for traces that compute the same."""
        return tuple(operation.described() for operation in self.operations)

    def changed(self) -> list[Tensor]:
        """What it changed of tensors that existed before: all the memory that each has a share of, flat."""
        made = {storage(x) for operation in self.operations if not operation.in_place for x in operation.results}
        found = {storage(x): x for operation in self.operations if operation.in_place for x in operation.written()}
        return [_memory_of(x) for key, x in found.items() if key not in made]

    def outside(self) -> list[Tensor]:
        """The tensors that it read or changed and did not make itself."""
        made = {storage(x) for operation in self.operations if not operation.in_place for x in operation.results}
        found = {id(x): x for operation in self.operations for x in operation.read if storage(x) not in made}
        return list(found.values())


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among what operators take and return: tensors, lists of them, and what is neither."""
    return [x for value in values for x in _flat(value) if isinstance(x, Tensor)]


def storage(x: Tensor) -> int:
    """An identity of the tensor's memory; tensors that share it are views of each other."""
    return int(x.untyped_storage()._cdata)


def _flat(value: Any) -> Sequence[Any] | Iterator[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _plain(value: Any) -> Any:
    """A Python argument as something to compare; None for tensors."""
    if isinstance(value, list | tuple):
        return tuple(_plain(x) for x in value)
    return None if isinstance(value, Tensor) else value


def _memory_of(x: Tensor) -> Tensor:
    """All the memory that a tensor has a share of, flat, as numbers of its type."""
    return torch.empty(0, dtype=x.dtype, device=x.device).set_(x.untyped_storage())
