"""Mutation of hyperparameters: the ranges in which they may change, and the change of one of them.

Method and default ranges are those of AgileRL's `HyperparameterConfig`, with one difference: integers are rounded and
change by at least 1, where AgileRL truncates them, so that small ones never grow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pydantic

from covey.config import Config, RLParameter
from covey.errors import ConfigError
from covey_server.member import Member

DEFAULT_EVOLVING = {"lr": 1.0, "lr_actor": 1.0, "lr_critic": 1.0, "batch_size": 65536, "learn_step": math.inf}
"""Hyperparameters that mutate unless the configuration selects others, with the largest value each of them may have."""


def ranges(config: Config) -> dict[str, RLParameter]:
    """Return the hyperparameters that may mutate, each with its range, as configured or by default.

    Args:
        config: The run's configuration.

    Returns:
        Range by name, with `dtype` set: "int" if the configured value is an integer, else "float".

    Raises:
        ConfigError: the algorithm does not have the hyperparameter, or does not allow a bound of its range.
    """
    values = config.algorithm.initial_hyperparameters().numbers()
    selected = config.mutation.rl_hp_selection or {
        name: _default_range(values[name], largest) for name, largest in DEFAULT_EVOLVING.items() if name in values
    }
    result = {}
    for name, chosen in selected.items():
        path = f"mutation.rl_hp_selection.{name}"
        if name not in values:
            raise ConfigError(f"{path}: {config.algorithm.name} has no such hyperparameter; remove it")
        if not (math.isfinite(chosen.min) and math.isfinite(chosen.max)):
            raise ConfigError(f"{path}: range {chosen.min} to {chosen.max}, expected finite numbers")
        integer = isinstance(values[name], int)
        bounded = chosen
        if integer:
            # Keep the integers of the range only.
            bounded = chosen.model_copy(update={"min": math.ceil(chosen.min), "max": math.floor(chosen.max)})
            if bounded.min > bounded.max:
                raise ConfigError(f"{path}: no integer lies between min {chosen.min} and max {chosen.max}; widen them")
        for end in ("min", "max"):
            _check_bound(config, name, f"{path}.{end}", getattr(bounded, end))
        result[name] = bounded.model_copy(update={"dtype": "int" if integer else "float"})
    return result


def mutate_hyperparameter(
    member: Member, allowed: Mapping[str, RLParameter], rng: np.random.Generator
) -> tuple[str, str]:
    """Grow or shrink one hyperparameter of a member in place; which one, and the direction, are drawn uniformly.

    Args:
        member: Member to mutate.
        allowed: Range by name of the hyperparameters that may mutate.
        rng: Random generator for the draws.

    Returns:
        ("rl_hp", what changed), or ("none", why nothing did).
    """
    name = list(allowed)[rng.integers(len(allowed))]
    limits = allowed[name]
    old = member.hyperparameters.numbers()[name]
    new = scaled(old, limits, grow=bool(rng.random() >= 0.5))
    if new == old:
        return "none", f"{name} {_text(old)} stays: range {_text(limits.min)} to {_text(limits.max)}"
    member.hyperparameters = member.hyperparameters.changed(**{name: new})
    if name == "learn_step":
        member.unpaid_steps = carried_over(member.unpaid_steps, int(old), int(new))
    return "rl_hp", f"{name} {_text(old)} -> {_text(new)}"


def draw_hyperparameters(member: Member, allowed: Mapping[str, RLParameter], rng: np.random.Generator) -> None:
    """Give a member of the first population a value from each range, in place, and record which in its `change`."""
    values = {name: drawn(limits, rng) for name, limits in allowed.items()}
    member.hyperparameters = member.hyperparameters.changed(**values)
    member.change = ", ".join(f"{name} {_text(value)}" for name, value in values.items()) + " drawn"


def drawn(limits: RLParameter, rng: np.random.Generator) -> float | int:
    """Draw from a range: log-uniformly, so that 0.001 to 0.01 is as probable as 0.01 to 0.1; uniformly from one with 0.

    Of integers, each is as probable as the numbers that are rounded to it.
    """
    share = rng.random()
    whole = limits.dtype == "int"
    low, high = (limits.min - 0.5, limits.max + 0.5) if whole else (limits.min, limits.max)
    value = low * (high / low) ** share if low > 0 else low + (high - low) * share
    value = min(max(round(value) if whole else value, limits.min), limits.max)
    return int(value) if whole else float(value)


def carried_over(unpaid_steps: int, before: int, after: int) -> int:
    """Env steps that count towards a member's updates once its `learn_step` has changed from `before` to `after`.

    An update becomes due for each `learn_step` env steps. Scaled likewise, they keep the number of updates due, and the
    fraction of the next one up to rounding down to whole steps.
    """
    return unpaid_steps * after // before


def scaled(value: float | int, limits: RLParameter, *, grow: bool) -> float | int:
    """Multiply a hyperparameter by its grow or shrink factor, within its range; integers change by at least 1."""
    target = value * (limits.grow_factor if grow else limits.shrink_factor)
    if limits.dtype == "int":
        # With a factor of 1.2, 2 would become round(2.4) = 2 for ever; it becomes 3.
        target = max(round(target), value + 1) if grow else min(round(target), value - 1)
        return int(min(max(target, limits.min), limits.max))
    return float(min(max(target, limits.min), limits.max))


def _default_range(value: float | int, largest: float) -> RLParameter:
    """Return the range around a configured value: a quarter to 4 times of an integer, 0.1 to 10 times of a float."""
    if isinstance(value, int):
        return RLParameter(min=max(1, value // 4), max=min(4 * value, largest), grow_factor=1.5, shrink_factor=0.75)
    return RLParameter(min=value / 10, max=min(value * 10, largest), grow_factor=1.2, shrink_factor=0.8)


def _text(value: float) -> str:
    """Format a hyperparameter's value for people, floats with 4 significant digits."""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _check_bound(config: Config, name: str, path: str, bound: float) -> None:
    """Raise a `ConfigError` unless the algorithm's configuration would accept a range's bound as a value."""
    try:
        config.algorithm.initial_hyperparameters().changed(**{name: bound})
    except pydantic.ValidationError as exc:
        message = exc.errors()[0]["msg"].replace("Input should be", "expected")
        raise ConfigError(f"{path}: {bound:g}: {message}, as for algorithm.{name}") from exc
