"""Creates a population for training loops from AgileRL's arguments."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from covey.config import Config, RLParameter, parse_config
from covey.config.accelerators import device_of
from covey.config.architecture import flattened_images, resolve
from covey.config.manifest import as_sections, translate
from covey.envs.reading import agent_spec
from covey.errors import ConfigError
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms import build_networks
from covey_server.api.agents import Agent, PopulationContext
from covey_server.evolution.generation import initial_population
from covey_server.evolution.hyperparameters import ranges
from covey_server.seeds import generator

logger = logging.getLogger("covey")

_NOT_SETTINGS = ("AGENT_IDS", "ALGO", "POP_SIZE", "POPULATION_SIZE", "NUM_ENVS")
"""Keys of `INIT_HP` that are not hyperparameters: arguments of `create_population`, or spaces, give these values."""


def create_population(
    algo: str,
    observation_space: Sequence[Any] | Mapping[str, Any],
    action_space: Sequence[Any] | Mapping[str, Any],
    net_config: Mapping[str, Any] | None = None,
    INIT_HP: Mapping[str, Any] | None = None,
    hp_config: Mapping[str, RLParameter] | None = None,
    *,
    population_size: int = 1,
    num_envs: int = 1,
    device: Any = "cpu",
    accelerator: Any = None,
    seed: int = 0,
    torch_compiler: Any = None,
    algo_kwargs: Mapping[str, Any] | None = None,
    actor_network: None = None,
    critic_network: None = None,
    agent_wrapper: Callable[..., Agent] | None = None,
    wrapper_kwargs: Mapping[str, Any] | None = None,
) -> list[Agent]:
    """Create a population of members with random initial weights.

    Args:
        algo: Name of the algorithm: "MADDPG", "MATD3", "MASAC", "IPPO", "MAPPO", "PQN", "QMIX", "VDN", or one that is
            installed.
        observation_space: Gymnasium spaces by agent, or in the order of "AGENT_IDS" in `INIT_HP`.
        action_space: Gymnasium spaces by agent, or in the order of "AGENT_IDS" in `INIT_HP`.
        net_config: Architecture for all agents, or by agent or group, as in the `network` section of a configuration;
            None: covey's default.
        INIT_HP: Hyperparameters with names in upper case, and "AGENT_IDS"; covey's defaults for what is missing.
        hp_config: Range by name of the hyperparameters that may mutate; None: default hyperparameters and ranges.
        population_size: Number of members.
        num_envs: Number of environments that a member acts in at once.
        device: Device on which members learn, such as "cpu" or "cuda".
        accelerator: An `accelerate.Accelerator` of one process, whose device is used in place of `device`, or None.
        torch_compiler: Left out with a warning: updates run as the learner chooses.
        algo_kwargs: Further hyperparameters, by their names in the `algorithm` section of a configuration.
        actor_network: None: policies are built from `net_config`. Networks of your own are refused.
        critic_network: None: critics are built from `net_config`. Networks of your own are refused.
        agent_wrapper: Called with each member, such as `AsyncAgentsWrapper`; returns the one to use. None: as they are.
        wrapper_kwargs: Keyword arguments of `agent_wrapper`.
        seed: Seed of initial weights, exploration and all other draws.

    Raises:
        ConfigError: a key or value is not allowed; the error names it.
        SpaceError: a space is not supported.
    """
    for name, network in (("actor_network", actor_network), ("critic_network", critic_network)):
        if network is not None:
            raise ConfigError(f"{name}: networks of your own are not trained; describe them by net_config")
    if wrapper_kwargs and agent_wrapper is None:
        raise ConfigError("wrapper_kwargs: no agent_wrapper to pass them to; pass both or neither")
    device = device_of(accelerator, device)
    given = dict(INIT_HP or {})  # a copy, because the caller's dictionary stays as it is
    if torch_compiler is not None:
        given["TORCH_COMPILER"] = torch_compiler
    for key, value in (algo_kwargs or {}).items():
        if given.setdefault(key.upper(), value) != value:
            raise ConfigError(f"algo_kwargs: {key} {value!r}, but INIT_HP has {key.upper()} {given[key.upper()]!r}")
    spaces = _spaces(observation_space, action_space, given.get("AGENT_IDS"))
    config = _config(algo, net_config, given, hp_config, population_size, num_envs, str(device), seed)
    # Both are called for their errors, before networks are initialised.
    shared = config.algorithm.share_parameters
    for sentence in flattened_images(resolve(config.network, spaces, shared), spaces, shared):
        logger.warning("%s", sentence)
    ranges(config)
    members = initial_population(
        config,
        lambda rng: build_networks(config, spaces, rng),
        generator(seed, "initialisation"),
        generator(seed, "mutation", "initial"),
    )
    context = PopulationContext(config, itertools.count(len(members)))
    agents = [Agent(member, context, spaces) for member in members]
    return [agent_wrapper(agent, **(wrapper_kwargs or {})) for agent in agents] if agent_wrapper else agents


def _config(
    algo: str,
    net_config: Mapping[str, Any] | None,
    init_hp: Mapping[str, Any],
    hp_config: Mapping[str, RLParameter] | None,
    population_size: int,
    num_envs: int,
    device: str,
    seed: int,
) -> Config:
    """Translate AgileRL's arguments into a configuration of covey."""
    settings = {k: v for k, v in init_hp.items() if k not in _NOT_SETTINGS}
    data = as_sections(
        {
            "INIT_HP": {**settings, "ALGO": algo, "POP_SIZE": population_size, "NUM_ENVS": num_envs},
            "NET_CONFIG": dict(net_config or {}),
        }
    )
    data["environment"].setdefault("name", "python")
    # No mutation at creation: the training functions mutate new populations before they train.
    data["mutation"] = {"rl_hp_selection": dict(hp_config or {}), "pre_training": False}
    data["learner"] = {"device": device}
    data["training"]["seed"] = seed
    return parse_config(translate(data))


def _spaces(
    observations: Sequence[Any] | Mapping[str, Any], actions: Sequence[Any] | Mapping[str, Any], agent_ids: Any
) -> EnvironmentSpaces:
    """Convert spaces by agent, or lists of spaces and of agent ids in the same order, to covey's own types."""
    if isinstance(observations, Mapping) and isinstance(actions, Mapping):
        agent_ids = list(observations) if agent_ids is None else list(agent_ids)
        if not set(agent_ids) == set(observations) == set(actions):
            raise ConfigError(
                f"observation_space, action_space: have agents {', '.join(observations)} and {', '.join(actions)}, "
                f"expected {', '.join(agent_ids)} in both"
            )
        pairs = [(observations[a], actions[a]) for a in agent_ids]
    elif agent_ids is None:
        raise ConfigError("INIT_HP.AGENT_IDS: missing, expected the agents' ids in the order of their spaces")
    elif isinstance(observations, Mapping) or isinstance(actions, Mapping):
        raise ConfigError(
            "observation_space, action_space: one is a mapping and one a list, expected two mappings by agent or "
            "two lists in the order of INIT_HP.AGENT_IDS"
        )
    else:
        agent_ids = list(agent_ids)
        if not len(observations) == len(actions) == len(agent_ids):
            raise ConfigError(
                f"INIT_HP.AGENT_IDS: {len(agent_ids)} agents, expected as many as there are observation spaces "
                f"({len(observations)}) and action spaces ({len(actions)})"
            )
        pairs = list(zip(observations, actions, strict=True))
    return EnvironmentSpaces.build(
        [agent_spec(a, seen, done) for a, (seen, done) in zip(agent_ids, pairs, strict=True)]
    )
