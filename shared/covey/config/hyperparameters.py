"""The hyperparameters that may mutate and their ranges, as training loops in Python give them."""

from __future__ import annotations

from covey.config.evolution import RLParameter

__all__ = ["HyperparameterConfig", "RLParameter"]


class HyperparameterConfig(dict[str, RLParameter]):
    """Ranges of hyperparameters by name, given as keywords: `HyperparameterConfig(lr=RLParameter(min=1e-4, max=1e-2))`.

    In a configuration file, `mutation.rl_hp_selection` holds the same.
    """

    def __init__(self, **ranges: RLParameter) -> None:
        super().__init__(ranges)
