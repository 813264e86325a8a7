"""What was expected of a value that is wrong, in plain words, and the usual names of settings in other libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ALIASES: Mapping[str, Sequence[str]] = {
    "lr": ("lr_actor",),
    "lr_actor": ("lr",),
    "lr_critic": ("lr",),
    "learning_rate": ("lr", "lr_actor"),
    "actor_lr": ("lr_actor",),
    "critic_lr": ("lr_critic",),
    "n_envs": ("num_envs",),
    "envs": ("num_envs",),
    "total_timesteps": ("max_steps",),
    "total_steps": ("max_steps",),
    "timesteps": ("max_steps",),
    "num_steps": ("learn_step",),
    "n_steps": ("learn_step",),
    "n_epochs": ("update_epochs",),
    "clip_range": ("clip_coef",),
    "discount": ("gamma",),
    "buffer_size": ("max_size",),
    "population_size": ("pop_size",),
    "random_seed": ("seed",),
    "gpu": ("device",),
    "cuda": ("device",),
    "env_name": ("name",),
    "env_id": ("name",),
    "tensorboard_log": ("tensorboard",),
    "wb": ("wandb",),
}
"""Names under which other libraries and people know a setting, in lower case, and covey's names for it."""

_KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a section of keys with values",
    "model": "a section of keys with values",
    "path": "a path",
    "none": "null",
}
"""What pydantic's error types begin with, and the kind of value that was expected."""


def expectation(error: Mapping[str, Any], keys: Sequence[str]) -> str:
    """A clause that says what was expected in place of a value.

    Args:
        error: One of `pydantic.ValidationError.errors()`.
        keys: Keys of the section that was expected, if it was one.
    """
    kind, about = error["type"], error.get("ctx", {})
    match kind:
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
        case "finite_number":
            return "expected a finite number"
        case "too_long":
            return f"expected at most {about['max_length']} entries, got {about['actual_length']}"
        case "too_short":
            return f"expected at least {about['min_length']} entries, got {about['actual_length']}"
        case "string_too_long":
            return f"expected at most {about['max_length']} characters"
        case "string_too_short":
            return f"expected at least {about['min_length']} characters"
        case "string_pattern_mismatch":
            return f"expected text of the form {about['pattern']}"
    beginning, _, rest = kind.partition("_")
    if beginning in _KINDS and rest in ("type", "parsing", "from_float", "parsing_size", "attributes_type", "required"):
        return f"expected {_KINDS[beginning]}" + (f" such as {', '.join(keys[:4])}" if keys else "")
    return str(error["msg"]).replace("Input should be", "expected")


def shown(value: Any) -> str:
    """A value as an error quotes it, shortened."""
    return value.__name__ if isinstance(value, type) else repr(value)[:80]
