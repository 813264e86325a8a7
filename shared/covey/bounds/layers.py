"""What networks' layers give for one sample of a batch: memory that an update holds until it has its gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from covey.networks import NetworkSpec
from covey.networks.labels import ParamSpec, axis_width


@dataclass(frozen=True, slots=True)
class LayerOutputs:
    """How many numbers layers give in a forward pass of one sample.

    Attributes:
        numbers: Of all layers, which are kept until gradients are computed.
        convolution: Of the largest convolution. Networks of a pack convolve one after another, so its results, and
            later its gradients, are there network by network and once more side by side.
    """

    numbers: int = 0
    convolution: int = 0

    def times(self, count: int) -> LayerOutputs:
        """Return those of so many passes."""
        return LayerOutputs(self.numbers * count, self.convolution * count)

    @staticmethod
    def total(several: Iterable[LayerOutputs]) -> LayerOutputs:
        """Return those of several networks together, whose largest convolutions are computed at one time."""
        its = list(several)
        return LayerOutputs(sum(o.numbers for o in its), sum(o.convolution for o in its))


def layer_outputs(spec: NetworkSpec) -> LayerOutputs:
    """Count the numbers that all layers of a network give for one sample.

    Activation functions keep no more: a layer's result is overwritten, as it were, by what its activation makes of it.
    A critic's encoder reads each agent of its group, so its layers count once for each.
    """
    numbers = convolution = 0
    copies = {f"encoder.{i.name}.": i.copies for i in spec.inputs}
    for p in spec.parameters:
        if p.inputs:
            times = next((n for prefix, n in copies.items() if p.name.startswith(prefix)), 1)
            own = times * _outputs(p)
            numbers += own
            if p.products > 1:
                convolution = max(convolution, own)
    return LayerOutputs(numbers, convolution)


def _outputs(weights: ParamSpec) -> int:
    """Return how many numbers a layer gives: one a unit, and of a convolution one a pixel and channel."""
    return weights.products * axis_width(weights.axes[-1])
