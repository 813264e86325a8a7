"""What a fresh member is made of: its networks by role and its hyperparameters."""

from __future__ import annotations

import numpy as np

from covey.config import EVOLVABLE, Config, NetConfig
from covey.errors import SpaceError
from covey.networks import Input, NetworkSpec
from covey.networks.resolve import mlp, network_ids, resolve
from covey.spaces import Box, EnvironmentSpaces
from covey_server.member import Hyperparameters, Network

CRITIC_ROLES = {"MADDPG": ("critic",), "MATD3": ("critic_1", "critic_2")}
"""The critics that judge one agent, by algorithm; the first one teaches the policy."""


def build_networks(config: Config, spaces: EnvironmentSpaces, rng: np.random.Generator) -> dict[str, Network]:
    """Networks of one member with initial weights, keyed "<role>/<network id>".

    Raises:
        SpaceError: an observation that is no Box.
        ConfigError: a `network` section that does not fit the environment.
    """
    for agent in spaces.agents:
        if not isinstance(agent.observation, Box):
            raise SpaceError(
                f"observation of agent {agent.agent_id!r}: Discrete({agent.observation.n}), expected Box; "
                "wrap the environment so that it gives a vector, such as a one-hot one"
            )
    shared = config.algorithm.share_parameters
    configs = resolve(config.network, spaces, shared)
    ids = network_ids(spaces, shared)
    networks = {f"actor/{i}": Network.fresh(actor_spec(configs[i], spaces, ids[i]), rng) for i in ids}
    for role in CRITIC_ROLES[config.algorithm.name]:
        for i in ids:
            networks[f"{role}/{i}"] = Network.fresh(critic_spec(configs, spaces, ids, i), rng)
    return networks


def actor_spec(config: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...]) -> NetworkSpec:
    """The policy of these agents: own observation in, numbers before squashing (Box) or logits (Discrete) out."""
    agent = spaces.agents[agents[0]]
    return NetworkSpec(
        inputs=(Input("observation", agent.observation.width, mlp(config.encoder_config)),),
        head=mlp(config.head_config),
        outputs=agent.action.width,
        latent_dim=config.latent_dim,
        min_latent_dim=config.min_latent_dim,
        max_latent_dim=config.max_latent_dim,
    )


def critic_spec(
    configs: dict[str, NetConfig], spaces: EnvironmentSpaces, ids: dict[str, tuple[int, ...]], network_id: str
) -> NetworkSpec:
    """The value of everything seen and done to the agents of `network_id`.

    It owns an encoder per group of agents, configured as that group's (its first agent's) own; latent space and head
    are those of `network_id`. Where several agents share it, a one-hot index says whom it judges.
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
        extra=sum(a.action.width for a in spaces.agents) + (judged if judged > 1 else 0),
        latent_dim=own.latent_dim,
        min_latent_dim=own.min_latent_dim,
        max_latent_dim=own.max_latent_dim,
    )


def initial_hyperparameters(config: Config) -> Hyperparameters:
    """The evolvable values that the algorithm has, as configured."""
    names = [n for n in EVOLVABLE if n != "policy_freq" or config.algorithm.name == "MATD3"]
    return {name: getattr(config.algorithm, name) for name in names}
