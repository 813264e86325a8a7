"""Runs every step of an update as it is written; what the other ways of running updates are compared with."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from torch import Tensor

from covey_server.packing.updates.backend import Step, UpdateBackend


class Eager(UpdateBackend):
    """Runs updates by calling their functions. Works with every torch and on every device."""

    def run(self, key: Hashable, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Call a step of an update; the key is not used, as nothing is kept of the step."""
        del key
        return step(*inputs)
