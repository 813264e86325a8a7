"""The hyperparameters that may mutate and their ranges, as training loops in Python give them."""

from __future__ import annotations

from typing import Any

import pydantic

from covey.config import evolution
from covey.config.section import explain
from covey.errors import ConfigError

__all__ = ["HyperparameterConfig", "RLParameter"]


class RLParameter(evolution.RLParameter):
    """Range within which one hyperparameter evolves, and the factors by which a mutation changes it.

    Args:
        min: Smallest value that mutations give the hyperparameter.
        max: Largest value that mutations give the hyperparameter.
        shrink_factor: Factor by which a mutation lowers the hyperparameter, below 1.
        grow_factor: Factor by which a mutation raises the hyperparameter, above 1.
        dtype: `int` or `float`, as code for AgileRL says; a hyperparameter keeps the type of its first value.

    Raises:
        ConfigError: `min` is above `max`, or another argument is not allowed.
    """

    def __init__(
        self,
        min: float,
        max: float,
        shrink_factor: float = 0.8,
        grow_factor: float = 1.2,
        dtype: type[int] | type[float] | str | None = None,
    ) -> None:
        try:
            values: dict[str, Any] = {"shrink_factor": shrink_factor, "grow_factor": grow_factor, "dtype": dtype}
            super().__init__(min=min, max=max, **values)
        except pydantic.ValidationError as exc:
            raise ConfigError(explain(exc, evolution.RLParameter, "RLParameter")) from exc


class HyperparameterConfig(dict[str, evolution.RLParameter]):
    """Ranges of hyperparameters by name, given as keywords: `HyperparameterConfig(lr=RLParameter(min=1e-4, max=1e-2))`.

    In a configuration file, `mutation.rl_hp_selection` holds the same.

    Raises:
        ConfigError: a value is no `RLParameter`.
    """

    def __init__(self, **ranges: evolution.RLParameter) -> None:
        for name, given in ranges.items():
            if not isinstance(given, evolution.RLParameter):
                raise ConfigError(
                    f"HyperparameterConfig.{name}: {given!r}: expected a range, RLParameter(min=..., max=...)"
                )
        super().__init__(ranges)
