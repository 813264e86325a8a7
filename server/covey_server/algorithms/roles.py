"""Architectures of the networks that algorithms need: policies, values of one agent, and joint critics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from covey.config import AlgorithmSettings, Config, NetConfig
from covey.config.architecture import resolve
from covey.config.encoder_choice import encoder_of, mlp
from covey.errors import ConfigError
from covey.networks import Input, NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces

PARAMETER_BYTES = 48
"""Bytes that the learner takes for one parameter of one member: the number itself, its target, its two moments, all of
them once more in packs, gradients, and what packing pads."""


def check_sizes(specs: Mapping[str, NetworkSpec], members: int, experience_bytes: int, limit: int) -> None:
    """Refuse what memory does not hold before any of it is allocated: an actor's spaces decide on it.

    Args:
        specs: One member's networks.
        members: How many members there are.
        experience_bytes: What the memory of env steps takes when it is full.
        limit: Most bytes of everything together, `learner.max_memory_bytes`.

    Raises:
        ConfigError: a network is too large, or everything together is.
    """
    for spec in specs.values():
        spec.check()
    numbers = members * sum(spec.numbers for spec in specs.values())
    if numbers * PARAMETER_BYTES + experience_bytes > limit:
        raise ConfigError(
            f"network: {numbers:,} parameters in the {members} members that these spaces ask for take "
            f"{_mib(numbers * PARAMETER_BYTES)}, and a full replay memory {_mib(experience_bytes)}, expected at most "
            f"{_mib(limit)} together; configure smaller networks, a smaller training.pop_size or "
            "replay_buffer.max_size, or raise learner.max_memory_bytes"
        )


def _mib(count: int) -> str:
    """A number of bytes in MiB."""
    return f"{count / (1 << 20):,.0f} MiB"


def networks_by_id(
    config: Config, spaces: EnvironmentSpaces
) -> tuple[dict[str, tuple[int, ...]], dict[str, NetConfig]]:
    """Return, by network id, the agents that each network plays and its resolved `network` configuration.

    Raises:
        ConfigError: a `network` section that does not fit the environment.
    """
    shared = config.algorithm.share_parameters
    return network_ids(spaces, shared), resolve(config.network, spaces, shared)


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
    return replace(value_spec(algorithm, config, spaces, agents), outputs=action.width)


def value_spec(
    algorithm: AlgorithmSettings, config: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...]
) -> NetworkSpec:
    """Describe these agents' value network: from an agent's own observation, and its index if wanted, to one number."""
    agent = spaces.agents[agents[0]]
    beside = indicator(algorithm, agents)
    return NetworkSpec(
        inputs=(
            Input(
                "observation",
                agent.stacked.width + beside,
                encoder_of(
                    config.encoder_config,
                    agent.observation,
                    "network",
                    f"agent {agent.agent_id!r}",
                    beside=beside,
                    frames=agent.frame_stack,
                ),
            ),
        ),
        head=mlp(config.head_config),
        outputs=1,
        latent_dim=config.latent_dim,
        min_latent_dim=config.min_latent_dim,
        max_latent_dim=config.max_latent_dim,
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
