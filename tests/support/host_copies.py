"""Watches torch operations for what a GPU would make the host wait for, or would refuse; works on the device "meta"."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from covey_server.packing.updates.trace import tensors_in

COPIES = ("_to_copy", "copy_")

_META = torch.library.Library("aten", "IMPL", "Meta")
_META.impl("_fused_adam_.tensor_lr", lambda *tensors, **numbers: None)
"""What torch lacks on "meta": Adam's step with a learning rate on the device, which returns nothing."""


class HostCopies(TorchDispatchMode):
    """A context that notes every operation that mixes the host's tensors with the device's, and every waiting copy.

    A copy from the host makes it wait for all work under way on a GPU unless it is asked not to (`non_blocking`); an
    operation on tensors of both is refused there. Tensors without dims are numbers, which a GPU takes from the host.

    Attributes:
        waits: Copies from the host for which it would wait.
        mixed: Operations with tensors of both.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []
        self.mixed: list[str] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        read = tensors_in((*args, *kwargs.values()))
        if name in COPIES:
            ends = read if name == "copy_" else [*tensors_in((results,)), *read]
            waiting = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            if waiting and len({x.device.type for x in ends}) > 1:
                self.waits.append(f"{name} {[(x.device.type, tuple(x.shape)) for x in ends]}")
        elif len({x.device.type for x in read if x.dim()}) > 1:
            self.mixed.append(f"{func} {[(x.device.type, tuple(x.shape)) for x in read]}")
        return results

    def __enter__(self) -> HostCopies:
        self._calls = _Calls(self.waits)
        self._calls.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *how: Any) -> None:
        super().__exit__(*how)  # type: ignore[no-untyped-call]
        self._calls.__exit__(*how)  # type: ignore[no-untyped-call]


class _Calls(TorchFunctionMode):
    """Notes calls that copy numbers from Python to the device and wait, which no dispatched operation shows."""

    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type != "cpu":
            self._waits.append(f"torch.tensor({args[0]}, device=...)")
        if func in (Tensor.__getitem__, Tensor.__setitem__) and args[0].device.type != "cpu":
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                self._waits.append(f"an index that is a list: {args[1]}")
        return func(*args, **kwargs)
