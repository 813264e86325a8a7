"""A kind of encoder over covey's operations: actors compute it with numpy, the learner with torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from covey.networks import MLP, Ops


@dataclass(frozen=True, slots=True, kw_only=True)
class Squashed(MLP):
    """An MLP that reads x / (scale + |x|), for observations without bounds.

    It has the layers, mutations and packs of an MLP; only what goes in differs.

    Attributes:
        scale: Number that is squashed to a half.
    """

    kind: ClassVar[str] = "squashed"

    scale: float = 1.0

    @property
    def structure(self) -> tuple[object, ...]:
        """Networks with equal keys are stacked and computed in one pass, so `scale` must be equal too."""
        return (*MLP.structure.fget(self), self.scale)

    def apply(
        self,
        ops: Ops,
        params: Mapping[str, Any],
        prefix: str,
        x: Any,
        valid: Mapping[str, Any],
        activations: Mapping[str, Any],
    ) -> Any:
        """Compute latents of observations, (B, in) or (K, B, in) for K stacked networks.

        Operators such as + and / work on numpy arrays and torch tensors alike; for all else there is `ops`.
        """
        x = x / (self.scale + abs(x))
        return MLP.apply(self, ops, params, prefix, x, valid, activations)

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as policies and checkpoints hold it."""
        return {**MLP.to_json(self), "scale": self.scale}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Squashed:
        """Make the encoder from JSON, or from `encoder_config.options`; missing keys take their defaults."""
        return Squashed(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"})
