"""Which hyperparameters mutate, and within which ranges."""

from __future__ import annotations

from covey.config.sections import RLParameter

__all__ = ["HyperparameterConfig", "RLParameter"]


class HyperparameterConfig(dict[str, RLParameter]):
    """Ranges by the hyperparameter's name, given as keywords: `lr=RLParameter(min=1e-4, max=1e-2)`.

    It is what `mutation.rl_hp_selection` holds in a configuration file.
    """

    def __init__(self, **ranges: RLParameter) -> None:
        super().__init__(ranges)
