"""What a fresh member is made of: its networks by role and its hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from covey.config import AlgorithmConfig, Config, NetConfig, OnPolicyAlgorithm
from covey.config.architecture import mlp, resolve
from covey.errors import ConfigError, SpaceError
from covey.networks import Input, NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import Box, Discrete, EnvironmentSpaces
from covey_server.member import Hyperparameters, Network

CRITIC_ROLES = {"MADDPG": ("critic",), "MATD3": ("critic_1", "critic_2"), "IPPO": ("critic",)}
"""The critics that judge one agent, by algorithm; the first one teaches the policy."""

MAX_POPULATION_PARAMETERS = 1 << 28
"""Of all members; each is kept four times, for targets and moments, and once more in packs: several GiB."""


def build_networks(config: Config, spaces: EnvironmentSpaces, rng: np.random.Generator) -> dict[str, Network]:
    """Networks of one member with initial weights, keyed "<role>/<network id>".

    Raises:
        SpaceError: actions that the algorithm cannot learn.
        ConfigError: a `network` section that does not fit the environment, or a population too large for any memory.
    """
    check_actions(config.algorithm, spaces)
    shared = config.algorithm.share_parameters
    configs = resolve(config.network, spaces, shared)
    ids = network_ids(spaces, shared)
    targets = not config.algorithm.on_policy
    specs = {f"actor/{i}": actor_spec(config.algorithm, configs[i], spaces, ids[i]) for i in ids}
    for role in CRITIC_ROLES[config.algorithm.name]:
        for i in ids:
            if config.algorithm.on_policy:
                specs[f"{role}/{i}"] = value_spec(config.algorithm, configs[i], spaces, ids[i])
            else:
                specs[f"{role}/{i}"] = critic_spec(configs, spaces, ids, i)
    _check_sizes(specs, config.training.pop_size)
    return {key: Network.fresh(spec, rng, with_target=targets) for key, spec in specs.items()}


def _check_sizes(specs: Mapping[str, NetworkSpec], members: int) -> None:
    """Refuse what no memory holds before any of it is allocated: an actor's spaces decide on it."""
    for spec in specs.values():
        spec.check()
    numbers = members * sum(spec.numbers for spec in specs.values())
    if numbers > MAX_POPULATION_PARAMETERS:
        raise ConfigError(
            f"network: {numbers:,} parameters in the {members} members that these spaces ask for, expected at most "
            f"{MAX_POPULATION_PARAMETERS:,}; configure smaller networks or a smaller training.pop_size"
        )


def check_actions(algorithm: AlgorithmConfig, spaces: EnvironmentSpaces) -> None:
    """Hold the kinds of action against the algorithm.

    Raises:
        SpaceError: MultiDiscrete or MultiBinary for MADDPG and MATD3, integers in a Box for IPPO.
    """
    for agent in spaces.agents:
        space = agent.action
        if algorithm.on_policy:
            if isinstance(space, Box) and np.dtype(space.dtype).kind != "f":
                raise SpaceError(
                    f"action of agent {agent.agent_id!r}: Box of {space.dtype}, expected floating-point numbers for "
                    f"{algorithm.name}; wrap the environment, or give it Discrete actions"
                )
        elif not isinstance(space, Box | Discrete):
            raise SpaceError(
                f"action of agent {agent.agent_id!r}: {type(space).__name__}, expected Box or Discrete for "
                f"{algorithm.name}; train it with IPPO"
            )


def indicator(algorithm: AlgorithmConfig, agents: tuple[int, ...]) -> int:
    """Length of the one-hot index that a policy of these agents reads besides its observation; 0 for none."""
    return len(agents) if algorithm.agent_indicator and len(agents) > 1 else 0


def actor_spec(
    algorithm: AlgorithmConfig, config: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...]
) -> NetworkSpec:
    """The policy of these agents: own observation in, what `covey.wire.policy_file.PolicySpec` says out."""
    action = spaces.agents[agents[0]].action
    spec = value_spec(algorithm, config, spaces, agents)
    if not isinstance(algorithm, OnPolicyAlgorithm):
        return replace(spec, outputs=action.width)
    return replace(
        spec,
        outputs=action.width,
        output_gain=algorithm.output_gain,
        log_std=algorithm.action_std_init if isinstance(action, Box) else None,
    )


def value_spec(
    algorithm: AlgorithmConfig, config: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...]
) -> NetworkSpec:
    """One number for what one of these agents sees by itself; its index in the group with it where that is wanted."""
    agent = spaces.agents[agents[0]]
    width = agent.observation.width + indicator(algorithm, agents)
    return NetworkSpec(
        inputs=(Input("observation", width, mlp(config.encoder_config)),),
        head=mlp(config.head_config),
        outputs=1,
        latent_dim=config.latent_dim,
        min_latent_dim=config.min_latent_dim,
        max_latent_dim=config.max_latent_dim,
    )


def critic_spec(
    configs: dict[str, NetConfig], spaces: EnvironmentSpaces, ids: dict[str, tuple[int, ...]], network_id: str
) -> NetworkSpec:
    """The value of everything seen and done to the agents of `network_id`.

    It owns an encoder per group of agents, configured as that group's (its first agent's) own; latent space and head
    are those of `network_id`. Its extra inputs are all agents' actions; where agents act at different times, who of
    them acts (1) and who waits or is gone (0); and where several agents share it, a one-hot index of whom it judges.
    """
    player = {agent: i for i, agents in ids.items() for agent in agents}
    own = configs[network_id]
    judged = len(ids[network_id])
    return NetworkSpec(
        inputs=tuple(
            Input(g.group_id, g.observation.width, mlp(configs[player[g.agents[0]]].encoder_config), len(g))
            for g in spaces.groups
        ),
        head=mlp(own.head_config),
        outputs=1,
        extra=sum(a.action.width for a in spaces.agents)
        + (len(spaces.agents) if spaces.asynchronous else 0)
        + (judged if judged > 1 else 0),
        latent_dim=own.latent_dim,
        min_latent_dim=own.min_latent_dim,
        max_latent_dim=own.max_latent_dim,
    )


def initial_hyperparameters(config: Config) -> Hyperparameters:
    """The evolvable values that the algorithm has, as configured."""
    return {name: getattr(config.algorithm, name) for name in config.algorithm.evolvable}
