"""Makes a traced tensor operation into a call without arguments that writes its results to given places in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from covey_server.packing.updates.trace import Operation, tensors_in


def call_of(operation: Operation, place: Callable[[Any], Any]) -> Callable[[], Any]:
    """Return a call without arguments that does a traced operation again, with other tensors in place of its own.

    Args:
        operation: The operation as it was seen in a trace.
        place: Gives for every tensor the one that stands for it from now on; anything else as it is.
    """
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
        for own, x in zip(results, tensors_in((function(*args, **kwargs),)), strict=True):
            own.copy_(x)

    return compute


@lru_cache(maxsize=1024)
def _out_variant(function: Any) -> tuple[Any, tuple[str, ...]]:
    """Find the overload of an operator with `out=` arguments, and their names; (None, ()) if there is none."""
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
    """Return torch's own Python function for an operator overload where calling it is faster, else the overload."""
    name = function.overloadpacket.__name__
    if name not in _BOUND or (name == "sum" and function._overloadname == "out"):  # torch.sum of everything has no out=
        return function
    return getattr(torch, name, None) or getattr(Tensor, name)
