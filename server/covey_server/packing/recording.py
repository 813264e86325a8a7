"""What a function does to tensors, written down once and computed again with other inputs.

At the sizes of most policies an operation costs by the call, and by the memory that it finds cold: Python around it,
autograd's bookkeeping, views made anew and results in ever other places are more than the arithmetic. A recording is a
flat list of operations whose results have places in one block of memory, used again as soon as they were read for the
last time, as CUDA graphs are for launches. What it computes is what the function does.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ALIGNMENT = 64
"""Bytes; of a cache line."""

KEPT = 64
"""Recordings of one function."""

Function = Callable[..., Sequence[Tensor]]


class Recorder:
    """Runs functions, from the third time of a key on from a recording.

    A function may read and change tensors that it is not given, as long as these stay where they are; what else it
    decides on must be in the key, and what it does besides tensors happens while it is run and recorded only.
    """

    def __init__(self) -> None:
        self._recordings: dict[Hashable, Recording | None] = {}
        self._memory = Memory()

    def __call__(self, key: Hashable, function: Function, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The function's results; those of a recording are overwritten by the next call.

        Args:
            key: Equal for calls that do the same: inputs are of one shape then.
            function: Takes the inputs.
            inputs: Tensors.
        """
        if key not in self._recordings:
            while len(self._recordings) >= KEPT:
                del self._recordings[next(iter(self._recordings))]
            self._recordings[key] = None  # many a key comes once
            return function(*inputs)
        recording = self._recordings.pop(key)
        if recording is not None:
            self._recordings[key] = recording
            return recording(inputs)
        recording, results = Recording.of(function, inputs, self._memory)
        self._recordings[key] = recording
        return results


class Memory:
    """One block that recordings share: no two are computed at the same time."""

    def __init__(self) -> None:
        self._block = torch.empty(0, dtype=torch.uint8)

    def of(self, size: int, device: torch.device) -> Tensor:
        """At least so many bytes. Recordings that hold the block as it was keep that."""
        if self._block.numel() < size or self._block.device != device:
            self._block = torch.empty(size, dtype=torch.uint8, device=device)
        return self._block


@dataclass
class _Operation:
    """A call as it was made.

    Attributes:
        function: An overload of an operator.
        args: Positional arguments, tensors among them.
        kwargs: Those by name.
        read: All tensors among the arguments.
        results: What it returned.
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


class _Log(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation, below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[_Operation] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not to be wrapped by what imports torch.compile's machinery meanwhile."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        operation = _Operation(func, args, kwargs, _tensors((*args, *kwargs.values())), _tensors((results,)))
        # Views are where they are; what else has no result of its own is noted for what it changes.
        if operation.in_place or not {_storage(x) for x in operation.results} & {_storage(x) for x in operation.read}:
            self.operations.append(operation)
        return results


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Those among what operators take and return: tensors, lists of them, and what is neither."""
    lists = (x if isinstance(x, list | tuple) else (x,) for x in values)
    return [x for values in lists for x in values if isinstance(x, Tensor)]


@dataclass
class _Life:
    """Of the memory of results: its size in bytes, the operations that make the first and use the last."""

    size: int
    first: int
    last: int
    offset: int = field(default=0)


class Recording:
    """Operations on memory of their own."""

    def __init__(self, inputs: list[Tensor], outputs: list[Tensor], steps: list[Callable[[], Any]]) -> None:
        self._inputs, self._outputs, self._steps = inputs, outputs, steps

    @staticmethod
    def of(function: Function, inputs: Sequence[Tensor], memory: Memory) -> tuple[Recording, Sequence[Tensor]]:
        """Call a function; what it did, and its results."""
        own = [x.clone() for x in inputs]
        log = _Log()
        with log:
            outputs = function(*own)
        lives = _lives(log.operations, outputs)
        block = memory.of(_placed(lives.values()), own[0].device)
        moved: dict[int, Tensor] = {}

        def place(x: Any) -> Any:
            """A tensor where it is from now on."""
            if not isinstance(x, Tensor):
                return x
            life = lives.get(_storage(x))
            if life is None:
                return x.detach()
            if id(x) not in moved:
                room = block[life.offset : life.offset + life.size].view(x.dtype)
                moved[id(x)] = room.as_strided(x.shape, x.stride(), room.storage_offset() + x.storage_offset())
            return moved[id(x)]

        steps = [_step(operation, place) for operation in log.operations]
        return Recording(own, [place(x) for x in outputs], steps), outputs

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The function's results."""
        for own, x in zip(self._inputs, inputs, strict=True):
            own.copy_(x)
        for step in self._steps:
            step()
        return self._outputs


def _lives(operations: Sequence[_Operation], outputs: Sequence[Tensor]) -> dict[int, _Life]:
    """By storage of all that operations made; results that are written over what they are made from share its life."""
    last = {_storage(x): i for i, operation in enumerate(operations) for x in operation.read + operation.results}
    last |= {_storage(x): len(operations) for x in outputs}
    lives: dict[int, _Life] = {}
    for i, operation in enumerate(operations):
        for x in () if operation.in_place else operation.results:
            life = _overwritten(operation, i, lives) or _Life(x.untyped_storage().nbytes(), i, i)
            life.last = max(life.last, last[_storage(x)])
            lives[_storage(x)] = life
    return lives


def _overwritten(operation: _Operation, i: int, lives: dict[int, _Life]) -> _Life | None:
    """The life of memory that an operation reads for the last time, element by element, if its result fits there."""
    if torch.Tag.pointwise not in operation.function.tags or len(operation.results) > 1:
        return None
    for x in operation.read:
        life = lives.get(_storage(x))
        if life is not None and life.last == i:
            views = [y for y in operation.read if lives.get(_storage(y)) is life]
            if all(_alike(y, operation.results[0]) for y in views):
                return life
    return None


def _alike(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors fill all their memory, element for element."""
    same = (x.dtype, x.shape, x.stride()) == (y.dtype, y.shape, y.stride())
    return same and x.untyped_storage().nbytes() == y.untyped_storage().nbytes() == x.nbytes


def _storage(x: Tensor) -> int:
    """What tells memory apart; tensors that share it are views of each other."""
    return int(x.untyped_storage()._cdata)


def _placed(lives: Iterable[_Life]) -> int:
    """Give each life an offset, in the lowest gap between those that are lived at the same time; bytes of all."""
    placed: list[_Life] = []  # by offset
    for life in sorted({id(life): life for life in lives}.values(), key=lambda life: -life.size):
        size = _aligned(life.size)
        at = 0
        for other in placed:
            if other.last < life.first or life.last < other.first:
                continue
            if other.offset >= at + size:
                break
            at = max(at, other.offset + _aligned(other.size))
        life.offset = at
        insort(placed, life, key=lambda other: other.offset)
    return max((life.offset + _aligned(life.size) for life in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _step(operation: _Operation, place: Callable[[Any], Any]) -> Callable[[], Any]:
    """An operation as a call without arguments."""
    function = operation.function

    def placed(x: Any) -> Any:
        return [place(y) for y in x] if isinstance(x, list | tuple) else place(x)

    args = [placed(x) for x in operation.args]
    kwargs = {name: placed(x) for name, x in operation.kwargs.items()}
    if operation.in_place:
        return partial(_binding(function), *args, **kwargs)
    results = [place(x) for x in operation.results]
    name = function.overloadpacket.__name__
    # What is quicker than the operation's own overload for results with a place.
    if name in ("clone", "_to_copy"):
        return partial(results[0].copy_, args[0])
    if name in ("new_zeros", "zeros", "zeros_like"):
        return partial(results[0].zero_)
    if name in ("ones_like", "scalar_tensor"):
        return partial(results[0].fill_, 1 if name == "ones_like" else args[0])
    if name == "relu":
        return partial(torch.clamp_min, args[0], 0, out=results[0])
    variant, names = _out_variant(function)
    if variant is not None and len(names) == len(results):
        return partial(variant, *args, **kwargs, **dict(zip(names, results, strict=True)))

    def compute() -> None:
        for own, x in zip(results, _tensors((function(*args, **kwargs),)), strict=True):
            own.copy_(x)

    return compute


@lru_cache(maxsize=1024)
def _out_variant(function: Any) -> tuple[Any, tuple[str, ...]]:
    """The overload that writes the same results to tensors given by name."""
    wanted = [(a.name, str(a.type)) for a in function._schema.arguments]
    packet = function.overloadpacket
    for name in packet.overloads():
        variant = getattr(packet, name)
        outs = tuple(a.name for a in variant._schema.arguments if a.is_out)
        if outs and [(a.name, str(a.type)) for a in variant._schema.arguments if not a.is_out] == wanted:
            return _binding(variant), outs
    return None, ()


# fmt: off
_BOUND = frozenset({
    "add", "baddbmm", "bitwise_right_shift", "bmm", "cat", "clamp", "div", "index_select", "lerp", "minimum", "mul",
    "neg", "sub", "sum", "tanh", "where",
    "add_", "bitwise_and_", "bitwise_right_shift_", "bitwise_xor_", "clamp_", "copy_", "cos_", "lerp_", "log_", "mul_",
    "relu_", "sqrt_", "_fused_adam_",
})
# fmt: on


def _binding(function: Any) -> Any:
    """Torch's own Python function, which takes half the time of a call by overload, where it is given the same."""
    name = function.overloadpacket.__name__
    if name not in _BOUND or (name == "sum" and function._overloadname == "out"):  # torch.sum of everything has no out=
        return function
    return getattr(torch, name, None) or getattr(Tensor, name)
