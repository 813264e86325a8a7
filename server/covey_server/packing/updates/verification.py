"""Compares captured updates with the steps that they stand for, while a run goes on.

A capture is compared the first time that it would be run, and then the 4th, 16th, 64th ... time, counted over all
captures of the same code and operators in the process. The comparison runs both on the same inputs and the same state:

    state   ->  capture  ->  results, state afterwards
    state (put back)  ->  step  ->  results, state afterwards

Equal results and equal state are required, and at the first time also the same operators with the same Python
arguments, for which the step is traced. What the step has computed is what counts, so that a run that finds a
difference has lost nothing since the comparison before.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from covey_server.packing.updates.backend import Step
from covey_server.packing.updates.capture import Capture, signature_of
from covey_server.packing.updates.comparison import same
from covey_server.packing.updates.trace import Described, Trace

logger = logging.getLogger("covey.learner")

GROWTH = 4
"""Every comparison comes after so many times as many runs as the one before."""


class Verification:
    """Remembers for a whole process which captured updates gave the results of the steps that they were made of.

    Attributes:
        trusted: Whether no capture has given wrong results so far.
    """

    def __init__(self) -> None:
        self.trusted = True
        self._runs: dict[Hashable, list[int]] = {}  # by signature: runs made, and the next one that is compared
        self._unsteady: set[Hashable] = set()

    def may_run(self, capture: Capture) -> bool:
        """Whether this capture may be run: captures of the same code are not known to give wrong results."""
        return self.trusted and capture.signature not in self._unsteady

    def due(self, capture: Capture) -> bool:
        """Count one run of a capture; returns whether this run is to be compared with the step itself."""
        runs = self._runs.setdefault(capture.signature, [0, 1])
        runs[0] += 1
        if runs[0] < runs[1]:
            return False
        runs[1] *= GROWTH
        return True

    def compare(self, capture: Capture, step: Step, inputs: Sequence[Tensor], *, exact: bool) -> Sequence[Tensor]:
        """Run a capture and its step from the same state and compare; if they differ, warn and let `may_run` refuse it.

        Args:
            capture: What was captured of the step.
            step: The step; where results differ, its own are used.
            inputs: What both are given.
            exact: Whether they must be equal to the bit.

        Returns:
            The step's results; the capture's, where these are equal within rounding.
        """
        before = [x.clone() for x in capture.changed]
        failure: str | None = None
        played: list[Tensor] = []
        try:
            played = [x.clone() for x in (*capture(inputs), *capture.changed)]
        except Exception as exc:  # whatever torch makes of a call that it has changed: the step itself is still there
            failure = f"{type(exc).__name__}: {exc}"
        _put(capture.changed, before)
        _put(capture.inputs, inputs)
        first = self._runs[capture.signature][0] == 1
        trace = Trace()
        with trace if first else contextlib.nullcontext():
            results = step(*capture.inputs)  # which lie in memory as those that were captured did
        if failure is None and not same(played, [*results, *capture.changed], exact=exact):
            failure = "it computes other numbers"
        if first:
            operations = trace.described()
            difference = first_difference(capture.operations, operations)
            if difference is not None:
                self._unsteady.add(signature_of(step, operations))
                self._unsettle(capture, difference)
            elif failure is not None:
                self.distrust(failure)
        elif failure is not None:
            # It was right at first, so torch records it rightly: something that the step decides by has changed.
            self._unsettle(capture, f"{failure} than it did before")
        if not exact and self.may_run(capture):
            # Equal within rounding: what is gone on with does not depend on when comparisons are made.
            _put(capture.changed, played[len(results) :])
            return played[: len(results)]
        return results

    def _unsettle(self, capture: Capture, difference: str) -> None:
        """Run captures of this code no more, as the step does not do the same every time, and log a warning."""
        self._unsteady.add(capture.signature)
        logger.warning(
            "learner.updates: a step of an update does not do the same every time (%s): it is run eagerly from now on; "
            "give it what changes as an input, or put it into the step's key",
            difference,
        )

    def distrust(self, reason: str) -> None:
        """Run no captures any more in this process, and log a warning with the reason."""
        self.trusted = False
        logger.warning(
            "learner.updates: a captured update is not the eager one with torch %s (%s): all updates are eager from "
            "now on; write learner.updates: eager, or install a torch that covey was tested with",
            torch.__version__,
            reason.splitlines()[0],
        )


PROCESS = Verification()
"""Of all backends of this process: each new generation has a backend of its own."""


def _put(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for x, y in zip(tensors, values, strict=True):
        x.copy_(y)


def first_difference(one: Sequence[Described], other: Sequence[Described]) -> str | None:
    """Describe where two traces of a step first differ; None if they do the same."""
    for (function, *own), (again, *its) in zip(one, other, strict=False):
        if function is not again:
            return f"{function} was run, then {again}"
        if own != its:
            pairs = zip(_flat(own), _flat(its), strict=False)
            x, y = next(((x, y) for x, y in pairs if x != y), (own, its))
            return f"{function} with {x}, then with {y}"
    return None if len(one) == len(other) else f"{len(one)} operations were run, then {len(other)}"


def _flat(arguments: object) -> list[object]:
    """Flatten nested lists of arguments into one list."""
    if isinstance(arguments, list | tuple):
        return [x for value in arguments for x in _flat(value)]
    return [arguments]
