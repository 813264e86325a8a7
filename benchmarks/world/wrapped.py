"""Environments behind a function of one's own, as users write them: wrapped by SuperSuit, weighted, or given a path."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any


def atari(game: str, obs_type: str = "rgb_image") -> Any:
    """A multi-agent Atari game, with the ROMs that the package ale-py brings."""
    import ale_py

    roms = str(Path(ale_py.__file__).parent)
    env = import_module(f"pettingzoo.atari.{game}")
    return env.parallel_env(auto_rom_install_path=roms, obs_type=obs_type)


def small_images(name: str, **config: Any) -> Any:
    """An environment of images, grey, 84 by 84, four of them in a stack."""
    import supersuit

    env = import_module(name).parallel_env(**config)
    return supersuit.frame_stack_v1(supersuit.resize_v1(supersuit.color_reduction_v0(env, "full"), 84, 84), 4)


def padded(name: str, **config: Any) -> Any:
    """An environment whose agents' spaces are made equal."""
    import supersuit

    env = import_module(name).parallel_env(**config)
    return supersuit.pad_action_space_v0(supersuit.pad_observations_v0(env))


def weighted(name: str, **config: Any) -> Any:
    """A momaland environment, whose rewards are vectors, with the mean of their entries as the reward."""
    import numpy as np
    from momaland.utils.parallel_wrappers import LinearizeReward

    env = import_module(name).parallel_env(**config)
    size = {agent: env.reward_space(agent).shape[0] for agent in env.possible_agents}
    return LinearizeReward(env, {agent: np.full(n, 1 / n) for agent, n in size.items()})


def open_spiel(game: str) -> Any:
    """A game of OpenSpiel by shimmy."""
    from shimmy import OpenSpielCompatibilityV0

    return OpenSpielCompatibilityV0(game_name=game)


def pogema(num_agents: int = 2, size: int = 8) -> Any:
    """A grid of POGEMA with PettingZoo's interface."""
    from pogema import GridConfig, pogema_v0

    return pogema_v0(GridConfig(num_agents=num_agents, size=size, integration="PettingZoo"))


def sumo(num_seconds: int = 200) -> Any:
    """The four by four grid of traffic lights that sumo-rl brings."""
    # sumo_rl asks for it when it is imported.
    os.environ.setdefault("SUMO_HOME", str(import_module("sumo").SUMO_HOME))
    import sumo_rl

    return sumo_rl.grid4x4(num_seconds=num_seconds)


def city_search() -> Any:
    """DSSE's search by drones."""
    from DSSE import DroneSwarmSearch

    return DroneSwarmSearch(grid_size=10, render_mode="ansi", timestep_limit=40, drone_amount=2)
