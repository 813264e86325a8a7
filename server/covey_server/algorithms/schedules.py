"""Hyperparameters that move over a run: each member's own value, where its env steps have taken it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from covey.config import Config
from covey_server.member import Member


def scheduled(
    config: Config, members: Sequence[Member], values: Mapping[str, NDArray[np.float64]]
) -> Mapping[str, NDArray[np.float64]]:
    """Return hyperparameters as they are now: a share of members' own where the configuration lets them move.

    Args:
        config: The run's configuration.
        members: The members, with the env steps that they have trained on.
        values: By name each member's own, (members,).
    """
    settings, steps = config.algorithm, config.training.max_steps
    if not settings.shares(0):
        return values
    shares = [settings.shares(m.env_steps / steps) for m in members]
    return {name: own * [share[name] for share in shares] if name in shares[0] else own for name, own in values.items()}
