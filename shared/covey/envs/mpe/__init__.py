"""The nine classical MPE tasks as arrays: many copies of one are stepped together, with the numbers of mpe2."""

from collections.abc import Mapping
from typing import Any

from covey.envs.loading import present_name

TASKS = (
    "simple_v3",
    "simple_adversary_v3",
    "simple_crypto_v3",
    "simple_push_v3",
    "simple_reference_v3",
    "simple_speaker_listener_v4",
    "simple_spread_v3",
    "simple_tag_v3",
    "simple_world_comm_v3",
)
"""The tasks, each a module of this package and, one copy at a time, of the package mpe2."""


def faster(entry_point: str, config: Mapping[str, Any]) -> str | None:
    """Return a sentence that names the same environment as arrays; None if there is none.

    Args:
        entry_point: Name of an environment, "mpe2.simple_spread_v3".
        config: Arguments of its function.
    """
    module, _, function = present_name(entry_point).partition(":")
    package, _, task = module.partition(".")
    if package != "mpe2" or task not in TASKS or function not in ("", "parallel_env"):
        return None
    if config.get("benchmark_data") or config.get("render_mode"):  # which arrays do not have
        return None
    return f"covey.envs.mpe.{task} is the same environment as arrays, many times as fast; name it in place of {module}"
