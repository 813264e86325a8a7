"""Runs as a learner leaves them, with members that have learned nothing: enough to play them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from covey.config import parse_config
from covey.envs import load_environment, read_spaces
from covey.run.directory import RunDirectory
from covey.wire.spaces_json import spaces_to_json
from covey_server.algorithms import build_networks
from covey_server.member import Member
from covey_server.storage.checkpoint import save_checkpoint

NETWORK = {"latent_dim": 8, "encoder_config": {"hidden_size": [8]}, "head_config": {"hidden_size": [8]}}


def untrained_run(
    path: Path,
    algorithm: dict[str, Any],
    environment: dict[str, Any],
    members: tuple[int, ...] = (3, 5),
    sides: Sequence[Sequence[str]] = (),
    **sections: Any,
) -> RunDirectory:
    """A run of one checkpoint whose last member is the best one; `sections` are further ones of its configuration.

    `sides` are those of a zero-sum game that is evaluated side by side.
    """
    data = {"algorithm": algorithm, "environment": environment, "training": {}, "network": NETWORK, **sections}
    config = parse_config(data)
    env = load_environment(config.environment.name, config.environment.config)()
    spaces = read_spaces(env, config.environment.groups)
    env.close()
    run = RunDirectory(path)
    path.mkdir()
    run.config.write_text(yaml.safe_dump(data))
    population = [
        Member(
            member_id=i,
            networks=build_networks(config, spaces, np.random.default_rng(i)),
            hyperparameters=config.algorithm.initial_hyperparameters(),
        )
        for i in members
    ]
    state = {
        "run": {"best_member": members[-1], "config": data, "spaces": spaces_to_json(spaces), "sides": sides},
        "scheduler": {"ledgers": {str(i): {"generation": 2} for i in members}},
    }
    save_checkpoint(run.checkpoints, state, population)
    return run


def speaker_listener(path: Path, algorithm: str = "MATD3", **settings: Any) -> RunDirectory:
    """Two agents with Box actions, unless an algorithm is given that wants other."""
    environment = {"name": "mpe2.simple_speaker_listener_v4", "config": {"continuous_actions": True}}
    return untrained_run(path, {"name": algorithm, **settings}, environment)


def tictactoe(path: Path, **sections: Any) -> RunDirectory:
    """A zero-sum game of two agents in turn, with masks, one shared policy."""
    algorithm = {"name": "IPPO", "agent_indicator": True}
    return untrained_run(path, algorithm, {"name": "pettingzoo.classic.tictactoe_v3"}, **sections)
