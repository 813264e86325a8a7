"""Finds the environments that a learner describes, if they are allowed on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from covey.envs import EnvironmentFactory, allowed, load_environment
from covey.envs.allow_list import ALWAYS_ALLOWED
from covey.envs.evaluation import load_evaluation
from covey.envs.found_functions import ENTRY_POINT
from covey.errors import EnvironmentLoadError, one_line
from covey.spaces import EnvironmentSpaces
from covey.v1.environment_pb2 import EnvironmentSpec

MAX_CONFIG_BYTES = 1 << 16
"""Most bytes of the environment's arguments, as JSON."""


def load_described(spec: EnvironmentSpec, env: str | None, allow_env: Sequence[str]) -> EnvironmentFactory:
    """Find the environment that a learner wants, if it is allowed here, or the one that `--env` names.

    Args:
        spec: What the learner describes.
        env: The entry point of `--env`, taken whatever the learner says; None: its own.
        allow_env: Patterns of what may run here besides environments of pettingzoo, mpe2 and covey.envs.mpe.

    Raises:
        EnvironmentLoadError: it is not allowed here, or cannot be loaded.
    """
    entry_point = env or spec.entry_point
    if not env and not allowed(entry_point, allow_env):
        # Advice that somebody pastes into a shell must hold nothing of the learner's but a name.
        remedy = "name it as package.module:function in the learner's environment.name"
        if ENTRY_POINT.fullmatch(entry_point):
            remedy = f"if you trust it, start with --allow-env {entry_point} or --env {entry_point}"
        raise EnvironmentLoadError(
            f"environment {one_line(entry_point, 80)!r} is not on this actor's allow-list "
            f"({', '.join([ALWAYS_ALLOWED, *allow_env])}); {one_line(remedy, 400)}"
        )
    return load_environment(entry_point, arguments(spec.config_json, "environment.config"))


def load_described_evaluation(
    spec: EnvironmentSpec,
    training: EnvironmentFactory,
    spaces: EnvironmentSpaces,
    groups: Mapping[str, Sequence[str]] | None,
) -> EnvironmentFactory:
    """Find the environment of evaluation slots: that of training, unless the learner gives it other arguments.

    Args:
        spec: What the learner describes.
        training: Builds the environment of training.
        spaces: Its agents and spaces, which both must have.
        groups: Agent ids by group id, if the learner gives them.

    Raises:
        EnvironmentLoadError: it cannot be built with these arguments.
        SpaceError: its agents or spaces are others.
    """
    if not spec.HasField("evaluation_config_json"):
        return training
    config = arguments(spec.evaluation_config_json, "environment.evaluation")
    return load_evaluation(training, spaces, config, groups, spec.ignore_observations, spaces.frame_stack, spec.state)


def arguments(text: str, key: str) -> dict[str, Any]:
    """Read the environment's keyword arguments from the learner's JSON; `key` is what sets them there.

    Raises:
        EnvironmentLoadError: it is too long, or no JSON object.
    """
    try:
        config = json.loads(text or "{}") if len(text) <= MAX_CONFIG_BYTES else None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise EnvironmentLoadError(
            f"environment: the learner's arguments {text[:80]!r} are not a JSON object of at most {MAX_CONFIG_BYTES} "
            f"bytes; correct {key}"
        )
    return config
