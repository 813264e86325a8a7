"""The memory of the learner and of an actor, predicted; and the refusal of what is more than a learner may take."""

from __future__ import annotations

from dataclasses import dataclass

from covey.bounds.experience import experience_bytes, planned_replay, planned_slots, state_bytes, stream_steps
from covey.bounds.layers import LayerOutputs
from covey.config import Config
from covey.errors import ConfigError
from covey.rows import MAX_RAW_BYTES, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.wire.limits import CACHED_POLICIES, CACHED_POLICY_BYTES

LEARNER_BYTES = 300 << 20
"""Bytes of a learner's process without networks and experience: Python, torch, gRPC, what is on its way."""

ACTOR_BYTES = 66 << 20
"""Bytes of an actor's process without environments, policies and rows."""

FRAGMENT_COPIES = 3
"""How often an actor holds the rows of a fragment: as steps are made, as one block, and compressed."""

CONVOLUTION_COPIES = 4
"""How often the results of the largest convolution are there besides those that are kept for the gradient: as results
of each network and side by side, and so their gradients."""

RECORDED_COPIES = 20
"""How often a recorded update holds the results of the layers that learn at one time: its recordings have a place for
the result of every operation of all passes, and all of these are there at once while one is made."""


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a population.

    Attributes:
        parameters: Numbers in the networks of one member.
        policy_parameters: Those of them that actors need.
        policies: Networks that these are in.
        targets: Whether each network has a target network.
        members: Members of the population.
        layers: What the layers of one member give for one sample of a batch, of those networks that learn at one time.
        recorded: Whether updates are run from recordings.
    """

    parameters: int
    policy_parameters: int
    policies: int
    targets: bool
    members: int
    layers: LayerOutputs
    recorded: bool

    @property
    def bytes_per_parameter(self) -> int:
        """Bytes that one parameter takes when there is most of it, as a generation begins.

        The parameter, its two moments and perhaps its target are there twice, in the members that were selected and in
        the packs in which they learn; then come policies for actors and gradients.
        """
        return 2 * 4 * (3 + self.targets) + 8

    @property
    def bytes(self) -> int:
        """Bytes of all members' networks when there is most of them."""
        return self.bytes_per_parameter * self.parameters * self.members

    @property
    def learning_bytes(self) -> int:
        """Bytes of all members' networks while they learn: parameters, moments, targets, gradients, policies."""
        return 4 * (5 + self.targets) * self.parameters * self.members

    def layers_bytes(self, batch_size: int) -> int:
        """Bytes of what layers give in an update of all members, when there is most of it."""
        its = self.layers
        eager = its.numbers + CONVOLUTION_COPIES * its.convolution
        return 4 * batch_size * self.members * (RECORDED_COPIES * its.numbers if self.recorded else eager)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a run takes of memory, bytes.

    Attributes:
        networks: Its networks.
        experience: Replay or rounds, when full.
        batch: What an update makes of a batch.
        layers: What the networks' layers give in an update, kept until gradients are computed.
        learner_start: Memory of the learner as training begins.
        learner_full: Most memory of the learner.
        actor_start: Memory of an actor without its environments, as it begins.
        actor_full: Most of it.
        slots: Training slots of an actor.
    """

    networks: Networks
    experience: int
    batch: int
    layers: int
    learner_start: int
    learner_full: int
    actor_start: int
    actor_full: int
    slots: int


def planned_memory(config: Config, spaces: EnvironmentSpaces, networks: Networks) -> Memory:
    """Predict what a run takes of memory.

    Raises:
        ConfigError: the configured experience holds nothing.
    """
    experience = experience_bytes(config, spaces)
    batch, layers = _batch_bytes(config, spaces), networks.layers_bytes(config.algorithm.batch_size)
    # A generation follows another between updates, so there is most of networks, or of what an update makes.
    most = max(networks.bytes, networks.learning_bytes + batch + layers)
    slots, rows = planned_slots(config, spaces), stream_steps(config, spaces) + spaces.frame_stack
    stream = rows * RowSchema.of(spaces).row_bytes + state_bytes(config, spaces)
    fragment = min(MAX_RAW_BYTES, slots * stream)
    # All members' newest policies as they are fetched, decoded and stacked, and older versions.
    newest = 3 * 4 * networks.policy_parameters * networks.members
    kept = CACHED_POLICIES * 4 * networks.policy_parameters // max(1, networks.policies)
    policies = newest + min(CACHED_POLICY_BYTES, kept)
    return Memory(
        networks=networks,
        experience=experience,
        batch=batch,
        layers=layers,
        learner_start=LEARNER_BYTES + networks.bytes,
        learner_full=LEARNER_BYTES + most + experience,
        actor_start=ACTOR_BYTES,
        actor_full=ACTOR_BYTES + policies + FRAGMENT_COPIES * fragment,
        slots=slots,
    )


def _batch_bytes(config: Config, spaces: EnvironmentSpaces) -> int:
    """Bytes of one batch of all members as networks read it: float32, now and next, and once more on its way there."""
    width = sum(agent.stacked.width for agent in spaces.agents)
    width += 0 if spaces.state is None else spaces.state.width
    samples = config.training.pop_size * config.algorithm.batch_size
    return 4 * 4 * samples * width


def check_memory(config: Config, memory: Memory, shared_parameters: int | None = None) -> None:
    """Refuse a run that needs more memory than its learner may take.

    Args:
        config: The run's configuration.
        memory: What it takes.
        shared_parameters: Numbers in the networks of one member if agents of a group shared theirs; None if they do,
            or if no group has several agents.

    Raises:
        ConfigError: networks and experience together are more than `learner.max_memory_bytes`.
    """
    networks, limit = memory.networks, config.learner.max_memory_bytes
    if networks.bytes + memory.experience <= limit:
        return
    replay = config.algorithm.learns_from == "replay"
    remedies = ["smaller networks (network)", "a smaller training.pop_size"]
    if shared_parameters is not None:
        remedies.insert(0, f"algorithm.share_parameters: true ({shared_parameters:,} parameters a member)")
    remedies.append("a smaller replay_buffer.max_size" if replay else "a smaller algorithm.learn_step")
    what = "a full replay memory" if replay else "a round of each"
    raise ConfigError(
        f"network: {networks.parameters * networks.members:,} parameters in the {networks.members} members that these "
        f"spaces ask for take {mib(networks.bytes)}, {networks.bytes_per_parameter} bytes each, and {what} "
        f"{mib(memory.experience)}, expected at most {mib(limit)} together; configure {', '.join(remedies)}, smaller "
        "frames, or raise learner.max_memory_bytes"
    )


def memory_line(memory: Memory) -> str:
    """Say what a run takes of memory, of its learner and of an actor."""
    networks = memory.networks
    return (
        f"memory: the learner takes about {mib(memory.learner_start)} at the start and {mib(memory.learner_full)} when "
        f"full, an actor with {memory.slots} training slots {mib(memory.actor_full)} besides its environments; "
        f"{networks.parameters:,} parameters a member, {networks.parameters * networks.members:,} in all"
    )


def experience_line(config: Config, spaces: EnvironmentSpaces) -> str:
    """Say how many env steps replay holds, and why fewer than configured; or how large rounds are."""
    row_bytes = RowSchema.of(spaces).row_bytes
    if config.algorithm.learns_from != "replay":
        states = state_bytes(config, spaces)
        remembered = (
            f", and what its agents remember {states:,}, once for up to {stream_steps(config, spaces)} env steps"
            if states
            else ""
        )
        return (
            f"memory: an env step is {row_bytes:,} bytes{remembered}; a round of {config.algorithm.learn_step:,} env "
            f"steps (algorithm.learn_step) for each of {config.training.pop_size} members takes "
            f"{mib(experience_bytes(config, spaces))}"
        )
    replay, asked = planned_replay(config, spaces), config.replay_buffer.max_size
    fewer = (
        f" of the {asked:,} of replay_buffer.max_size, as replay_buffer.max_bytes has no room for more"
        if replay.steps < asked
        else ""
    )
    return (
        f"memory: an env step is {row_bytes:,} bytes; replay holds {replay.steps:,} env steps{fewer}, in "
        f"{mib(replay.bytes)} when it is full"
    )


def mib(count: int) -> str:
    """A number of bytes in MiB, or in GiB where it is many of them."""
    return f"{count / (1 << 20):,.0f} MiB" if count < 10 << 30 else f"{count / (1 << 30):,.1f} GiB"
