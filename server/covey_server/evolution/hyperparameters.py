"""Evolvable hyperparameters: how far they may go, and how one of them mutates.

Source of the method and of the default ranges: AgileRL's `HyperparameterConfig`, except that integers are rounded and
move by at least 1, where the peer truncates and small ones stand still.
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
"""What mutates where nothing is selected, with the largest value that a configuration accepts."""


def ranges(config: Config) -> dict[str, RLParameter]:
    """What may mutate, with `dtype` set: `mutation.rl_hp_selection`, or the default ranges where it is empty.

    A hyperparameter is an integer if its configured value is one, whatever `dtype` says.

    Raises:
        ConfigError: a hyperparameter that the algorithm does not have, or a bound that the algorithm would refuse.
    """
    values = {name: getattr(config.algorithm, name) for name in config.algorithm.evolvable}
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
    """Shrink or grow one hyperparameter, drawn uniformly, in place.

    With `learn_step` the unpaid env steps change in proportion, so that the member owes the same updates and the same
    fraction of the next one (rounded down to whole steps).

    Returns:
        ("rl_hp", what changed), or ("none", why nothing did).
    """
    name = list(allowed)[rng.integers(len(allowed))]
    limits = allowed[name]
    old = member.hyperparameters[name]
    new = moved(old, limits, grow=bool(rng.random() >= 0.5))
    if new == old:
        return "none", f"{name} {_text(old)} stays: range {_text(limits.min)} to {_text(limits.max)}"
    member.hyperparameters[name] = new
    if name == "learn_step":
        member.unpaid_steps = member.unpaid_steps * int(new) // int(old)
    return "rl_hp", f"{name} {_text(old)} -> {_text(new)}"


def moved(value: float | int, limits: RLParameter, *, grow: bool) -> float | int:
    """`value` times a factor, within the limits; an integer moves by at least 1 where they allow it."""
    target = value * (limits.grow_factor if grow else limits.shrink_factor)
    if limits.dtype == "int":
        target = max(round(target), value + 1) if grow else min(round(target), value - 1)
        return int(min(max(target, limits.min), limits.max))
    return float(min(max(target, limits.min), limits.max))


def _default_range(value: float | int, largest: float) -> RLParameter:
    if isinstance(value, int):
        return RLParameter(min=max(1, value // 4), max=min(4 * value, largest), grow_factor=1.5, shrink_factor=0.75)
    return RLParameter(min=value / 10, max=min(value * 10, largest), grow_factor=1.2, shrink_factor=0.8)


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _check_bound(config: Config, name: str, path: str, bound: float) -> None:
    """A bound must be a value that the configuration itself could hold."""
    try:
        type(config.algorithm).model_validate({**config.algorithm.model_dump(), name: bound})
    except pydantic.ValidationError as exc:
        message = exc.errors()[0]["msg"].replace("Input should be", "expected")
        raise ConfigError(f"{path}: {bound:g}: {message}, as for algorithm.{name}") from exc
