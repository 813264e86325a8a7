"""Architectures of the networks that algorithms need: policies, values of one agent, and joint critics."""

from __future__ import annotations

from dataclasses import replace

from covey.config import AlgorithmSettings, Config, NetConfig
from covey.config.architecture import resolve
from covey.config.encoder_choice import encoder_of, mlp, policy_encoder_of, vector_encoder_of
from covey.errors import ConfigError
from covey.networks import Input, NetworkSpec
from covey.networks.cnn import CNN
from covey.networks.resolve import network_ids
from covey.rows import STATE
from covey.spaces import Box, EnvironmentSpaces
from covey_server.algorithms.joint_view import JointView


def networks_by_id(
    config: Config, spaces: EnvironmentSpaces
) -> tuple[dict[str, tuple[int, ...]], dict[str, NetConfig]]:
    """Return, by network id, the agents that each network plays and its resolved `network` configuration.

    Raises:
        ConfigError: a `network` section that does not fit the environment, or memory that the algorithm cannot train.
    """
    shared = config.algorithm.share_parameters
    configs = resolve(config.network, spaces, shared)
    if any(own.encoder_config.recurrent for own in configs.values()) and not config.algorithm.recurrent_policies:
        raise ConfigError(
            f"network.encoder_config.recurrent: true, but {config.algorithm.name} trains policies without memory; "
            "leave it out, or choose algorithm.name: IPPO or MAPPO"
        )
    return network_ids(spaces, shared), configs


def indicator(algorithm: AlgorithmSettings, agents: tuple[int, ...]) -> int:
    """Return the length of the one-hot index that a policy shared by these agents reads besides observations.

    0 for none.
    """
    return len(agents) if algorithm.agent_indicator and len(agents) > 1 else 0


def actor_spec(
    algorithm: AlgorithmSettings, config: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...]
) -> NetworkSpec:
    """Describe these agents' policy network: from an agent's own observation to the logits or numbers of its action."""
    action = spaces.agents[agents[0]].action
    spec = replace(value_spec(algorithm, config, spaces, agents), outputs=action.width, reads_memory=0)
    encoder = policy_encoder_of(config.encoder_config, spec.inputs[0].encoder)
    return replace(spec, inputs=(replace(spec.inputs[0], encoder=encoder),))


def value_spec(
    algorithm: AlgorithmSettings,
    config: NetConfig,
    spaces: EnvironmentSpaces,
    agents: tuple[int, ...],
    joint: JointView | None = None,
) -> NetworkSpec:
    """Describe these agents' value network, from observations, and the agent's index if wanted, to one number.

    Where the policy has memory, the value network has none of its own but reads the policy's state.

    Args:
        algorithm: Says whether networks that agents share read an index.
        config: The network's configuration.
        spaces: Spaces of the environment.
        agents: The agents.
        joint: What it sees; None: the agent's own observation. The environment's state, where it is read, is numbers
            behind the observation.
    """
    agent = spaces.agents[agents[0]]
    encoder_config, observation, more = config.encoder_config, agent.observation, indicator(algorithm, agents)
    if joint is not None:
        observation, more = joint.observation(agents[0]), more + joint.more
        if encoder_config.kind == CNN.kind and spaces.state is None:  # of one image; here are several
            encoder_config = encoder_config.model_copy(update={"kind": None})
    frames = agent.frame_stack
    encoder = encoder_of(
        encoder_config, observation, "network", f"agent {agent.agent_id!r}", beside=more, frames=frames
    )
    return NetworkSpec(
        inputs=(Input("observation", frames * observation.width + more, encoder),),
        head=mlp(config.head_config),
        outputs=1,
        latent_dim=config.latent_dim,
        min_latent_dim=config.min_latent_dim,
        max_latent_dim=config.max_latent_dim,
        reads_memory=config.encoder_config.hidden_state_size if config.encoder_config.recurrent else 0,
    )


def critic_spec(
    configs: dict[str, NetConfig], spaces: EnvironmentSpaces, ids: dict[str, tuple[int, ...]], network_id: str
) -> NetworkSpec:
    """Describe a joint critic: from all agents' observations and actions to the value for the agents of `network_id`.

    It owns an encoder per group of agents, configured as that group's (its first agent's) own; latent space and head
    are those of `network_id`. Its extra inputs are all agents' actions; where agents act at different times, who of
    them acts (1) and who waits or is gone (0); and where several agents share it, a one-hot index of the one whose
    value it predicts.
    """
    player = {agent: i for i, agents in ids.items() for agent in agents}
    own = configs[network_id]
    sharing = len(ids[network_id])
    return NetworkSpec(
        inputs=tuple(
            Input(
                g.group_id,
                g.stacked.width,
                encoder_of(
                    configs[player[g.agents[0]]].encoder_config,
                    g.observation,
                    "network",
                    f"group {g.group_id!r}",
                    frames=g.frame_stack,
                ),
                len(g),
            )
            for g in spaces.groups
        ),
        head=mlp(own.head_config),
        outputs=1,
        extra=sum(a.action.width for a in spaces.agents)
        + (len(spaces.agents) if spaces.asynchronous else 0)
        + (sharing if sharing > 1 else 0),
        latent_dim=own.latent_dim,
        min_latent_dim=own.min_latent_dim,
        max_latent_dim=own.max_latent_dim,
    )


def state_spec(config: NetConfig, space: Box, outputs: int) -> NetworkSpec:
    """Describe a network of the state of the whole environment, which it reads as one vector.

    Args:
        config: The network's configuration.
        space: The state's space.
        outputs: How many numbers it gives.
    """
    return NetworkSpec(
        inputs=(Input(STATE, space.width, vector_encoder_of(config.encoder_config, "network")),),
        head=mlp(config.head_config),
        outputs=outputs,
        latent_dim=config.latent_dim,
        min_latent_dim=config.min_latent_dim,
        max_latent_dim=config.max_latent_dim,
    )
