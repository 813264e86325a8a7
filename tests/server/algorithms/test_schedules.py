"""Learning rates and the like that move over a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.support import replays, rounds
from tests.support.members import assert_same_networks

from covey.config import Config, parse_config
from covey_server.algorithms import ALGORITHMS
from covey_server.member import Member

MAX_STEPS = 100
AT = (0, 20, 50, 90, 100, 130)
"""Env steps of the members at their updates."""

MOVING: dict[str, Mapping[str, Any]] = {
    "IPPO": {
        "lr": {"from": 0.01, "to": 0.002},
        "clip_coef": {"from": 0.2, "to": 0.1},
        "ent_coef": {"from": 0.1, "to": 0},
    },
    "MATD3": {"lr_actor": {"from": 0.01, "to": 0.0}, "lr_critic": {"from": 0.02, "to": 0.004}},
}


def made(algorithm: str, updates: str, settings: Mapping[str, Any]) -> Config:
    both: Any = rounds.config(name=algorithm) if algorithm == "IPPO" else replays.config(algorithm)
    data = both.model_dump()
    data["algorithm"] |= settings
    data["learner"]["updates"] = updates
    data["training"]["max_steps"] = MAX_STEPS
    return parse_config(data)


def members_of(algorithm: str, config: Config) -> list[Member]:
    """Two; the second one's rates are what evolution made of them."""
    spaces, make = (rounds.SIMULTANEOUS, rounds.member) if algorithm == "IPPO" else (replays.BOXES, replays.member)
    rates = {name: 2 * getattr(config.algorithm, name) for name in MOVING[algorithm] if name.startswith("lr")}
    return [make(0, config, spaces), make(1, config, spaces, **rates)]


def updated(algorithm: str, updates: str, settings: Mapping[str, Any], by_hand: bool) -> Sequence[Member]:
    config = made(algorithm, updates, settings)
    spaces = rounds.SIMULTANEOUS if algorithm == "IPPO" else replays.BOXES
    members = members_of(algorithm, config)
    starts = [m.hyperparameters for m in members]
    learner = ALGORITHMS[algorithm](config, spaces, members)
    for i, steps in enumerate(AT):
        if by_hand:
            learner.unpack()
            done = min(1, steps / MAX_STEPS)
            for m, start in zip(members, starts, strict=True):
                ends = {name: s["to"] / s["from"] for name, s in MOVING[algorithm].items()}
                values = {name: getattr(start, name) * (1 + done * (end - 1)) for name, end in ends.items()}
                m.hyperparameters = start.model_copy(update=values)  # 0 is no value that may be configured
            learner = ALGORITHMS[algorithm](config, spaces, members)
        for m in members:
            m.env_steps = steps
        experience: Any = rounds.together(spaces, {0: 20, 1: 20}, i) if algorithm == "IPPO" else replays.filled(spaces)
        learner.update((0, 1), experience)
    learner.unpack()
    return members


@pytest.mark.parametrize("algorithm", MOVING)
def test_members_learn_with_what_the_schedule_makes_of_their_own_values(algorithm: str) -> None:
    plain = {name: schedule["from"] for name, schedule in MOVING[algorithm].items()}
    moving = updated(algorithm, "eager", MOVING[algorithm], by_hand=False)
    recorded = updated(algorithm, "recorded", MOVING[algorithm], by_hand=False)
    by_hand = updated(algorithm, "eager", plain, by_hand=True)
    for one, other, expected in zip(moving, recorded, by_hand, strict=True):
        assert_same_networks(one, other)
        assert_same_networks(one, expected)
