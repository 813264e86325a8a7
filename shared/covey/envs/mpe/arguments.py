"""What the functions of the MPE tasks take: the same names and meanings as mpe2's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covey.errors import ConfigError

_AT_LEAST = {
    "num_envs": 1,
    "N": 1,
    "max_cycles": 1,
    "num_good": 1,
    "num_adversaries": 1,
    "num_obstacles": 0,
    "num_food": 1,
    "num_forests": 0,
}
_FLAGS = ("continuous_actions", "dynamic_rescaling", "curriculum", "terminate_on_success")
_NEIGHBOURS = ("num_agent_neighbors", "num_landmark_neighbors")


def check_arguments(task: str, given: Mapping[str, Any]) -> None:
    """Refuse what does not fit.

    Args:
        task: The task, "simple_spread_v3".
        given: All arguments of its function by name.

    Raises:
        ConfigError: an argument has a value that it cannot have, or one that concerns mpe2 alone.
    """
    for name, value in given.items():
        integer = isinstance(value, int) and not isinstance(value, bool)
        number = integer or isinstance(value, float)
        if name in _AT_LEAST and not (integer and value >= _AT_LEAST[name]):
            raise ConfigError(f"{name}: {value!r}, expected an integer of at least {_AT_LEAST[name]}")
        if name in _FLAGS and not isinstance(value, bool):
            raise ConfigError(f"{name}: {value!r}, expected true or false")
        if name == "local_ratio" and not (number and 0 <= value <= 1):
            raise ConfigError(f"{name}: {value!r}, expected a number from 0 to 1")
        if name in _NEIGHBOURS and value is not None and not (integer and value >= 1):
            raise ConfigError(f"{name}: {value!r}, expected an integer of at least 1, or null for all")
        if name == "render_mode" and value is not None:
            raise ConfigError(
                f"render_mode: {value!r}, expected null, as arrays draw nothing; covey render films runs of covey.envs."
                f"mpe.{task}, or take mpe2.{task}"
            )
        if name == "benchmark_data" and value is not False:
            raise ConfigError(
                f"benchmark_data: {value!r}, expected false, as arrays carry no infos; take mpe2.{task} for them"
            )
