"""The reference: every step is run as it is written."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from torch import Tensor

from covey_server.packing.updates.backend import Step, UpdateBackend


class Eager(UpdateBackend):
    """Calls the step. Works with every torch and on every device."""

    def run(self, key: Hashable, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run a step as it is written; nothing is kept of it, so the key does not matter."""
        del key
        return step(*inputs)
