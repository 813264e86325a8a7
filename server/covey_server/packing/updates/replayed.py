"""Ways of running updates that capture a step once and run the capture from then on: recordings and CUDA graphs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from covey_server.packing.updates import verification
from covey_server.packing.updates.backend import Step, UpdateBackend
from covey_server.packing.updates.capture import Capture
from covey_server.packing.updates.verification import Verification

KEPT = 64
"""Captures of one population; the one that was not run for longest goes first."""


class Replayed(UpdateBackend):
    """Runs a step eagerly on the first call under a key, captures it on the second, and from then on runs the capture.

    Many a key comes only once, which is why the first call captures nothing. Now and then the results of a capture are
    compared with the step's own.

    Args:
        seen: Remembers which captures gave wrong results; None: what all of this process share.

    Attributes:
        exact: Whether a capture must give its step's results to the bit.
    """

    exact: ClassVar[bool]

    def __init__(self, seen: Verification | None = None) -> None:
        self._seen = verification.PROCESS if seen is None else seen
        # By key, the one that was run last at the end: what is run, or that it was run once, or that it stays eager.
        self._captures: dict[Hashable, Capture | Literal["once", "eager"]] = {}

    @abstractmethod
    def capture(self, step: Step, inputs: Sequence[Tensor]) -> tuple[Capture | None, Sequence[Tensor]]:
        """Run a step and capture it.

        Returns:
            The capture, which can be run from now on, or None where the step cannot be captured; and the step's
            results.
        """

    def run(self, key: Hashable, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run a step of an update: eagerly, or from what was captured under its key."""
        if not self._seen.trusted:
            self._captures.clear()
            return step(*inputs)
        if key not in self._captures:
            while len(self._captures) >= KEPT:
                del self._captures[next(iter(self._captures))]
            self._captures[key] = "once"
            return step(*inputs)
        capture = self._captures.pop(key)
        if capture == "once":
            captured, results = self.capture(step, inputs)
            self._captures[key] = captured or "eager"
            return results
        self._captures[key] = capture
        if capture == "eager" or not self._seen.may_run(capture):
            return step(*inputs)
        if self._seen.due(capture):
            return self._seen.compare(capture, step, inputs, exact=self.exact)
        return capture(inputs)
