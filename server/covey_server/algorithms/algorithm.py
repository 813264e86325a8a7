"""The base class of training algorithms: what the learner asks of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from covey.bounds.layers import LayerOutputs, layer_outputs
from covey.bounds.memory import Memory, Networks, check_memory, planned_memory
from covey.config import AlgorithmSettings, Config
from covey.errors import ConfigError
from covey.networks import NetworkSpec
from covey.networks.images import is_image
from covey.spaces import EnvironmentSpaces
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms.statistics import begin_statistics, kept_statistics
from covey_server.experience.batch import Batch
from covey_server.experience.experience import Experience
from covey_server.member import Member, MemberSizes, Network
from covey_server.orders.pace import Pace
from covey_server.packing.networks_by_role import PackedNetworks
from covey_server.packing.policy_snapshot import PolicySnapshot
from covey_server.packing.updates import is_recorded


def sharing(config: Config) -> Config:
    """Return a run's configuration with `algorithm.share_parameters: true`."""
    return config.model_copy(update={"algorithm": config.algorithm.model_copy(update={"share_parameters": True})})


class Algorithm(ABC):
    """Base of the learning algorithms; an instance holds a population's networks, stacked, and updates them.

    The class says what a run of the algorithm consists of (networks, experience, pace, exploration). An instance is
    made anew after every change of the population. Its configuration section is a `covey.config.AlgorithmSettings`,
    which names this class.

    Attributes:
        passes: Batched critic passes made.
        member_updates: Members updated in them, summed: member_updates / passes is the mean number of members a pass.
    """

    with_targets: ClassVar[bool] = False
    """Whether every network has a soft-updated copy."""

    normalizes: ClassVar[bool] = False
    """Whether it uses and moves the statistics that `normalize_observations` and `scale_rewards` give networks."""

    state_roles: ClassVar[tuple[str, ...] | None] = None
    """Roles of the networks, such as "critic", that read the state of the whole environment where rows hold it
    (`environment.state`); () if none does, which is said in such a run, and None if nobody knows."""

    passes: int
    member_updates: int

    @abstractmethod
    def __init__(
        self,
        config: Config,
        spaces: EnvironmentSpaces,
        members: Sequence[Member],
        device: torch.device | str = "cpu",
        population: Sequence[MemberSizes] | None = None,
    ) -> None:
        """Stack the members' networks; the members' own copies change only at `unpack`, their update counts at once.

        Args:
            config: The run's configuration.
            spaces: Spaces of the environment.
            members: Who learns here.
            device: Where.
            population: Sizes of all members, in the order of their places, where `members` are a share of them. They
                alone decide how much networks and batches are padded, so that a member learns the same in any share.
        """

    # -- what a run consists of -----------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def check_actions(cls, settings: AlgorithmSettings, spaces: EnvironmentSpaces) -> None:
        """Refuse environments with action spaces that the algorithm cannot learn.

        Raises:
            SpaceError: actions that it cannot learn.
        """

    @classmethod
    @abstractmethod
    def network_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """Describe one member's networks, by keys such as "actor/speaker_0"; policies begin with "actor/".

        Raises:
            ConfigError: a `network` section that does not fit the environment.
        """

    @classmethod
    def networks(cls, config: Config, spaces: EnvironmentSpaces, rng: np.random.Generator) -> dict[str, Network]:
        """Make one member's networks with initial weights, by keys such as "actor/speaker_0".

        Raises:
            SpaceError: actions that the algorithm cannot learn.
            ConfigError: a `network` section that does not fit the environment, or a population too large for any
                memory.
        """
        specs = cls.checked_specs(config, spaces)
        orthogonal = config.algorithm.orthogonal_init
        networks = {
            key: Network.fresh(spec, rng, with_target=cls.with_targets, orthogonal=orthogonal)
            for key, spec in specs.items()
        }
        begin_statistics(config.algorithm, spaces, networks, cls.state_roles or ())
        return networks

    @classmethod
    def checked_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """`network_specs`, if the algorithm can learn these actions, and the whole population fits into memory.

        Raises:
            SpaceError, ConfigError: as `networks`, and before any memory is taken.
        """
        cls.check_actions(config.algorithm, spaces)
        for name in kept_statistics(config.algorithm):
            if not cls.normalizes:
                raise ConfigError(
                    f"algorithm.{name}: true, expected false with {config.algorithm.name}, as {cls.__name__} does not "
                    "normalise; leave it out"
                )
        specs = cls.network_specs(config, spaces)
        for spec in specs.values():
            spec.check()
        memory = cls.planned_memory(config, spaces, specs)
        check_memory(config, memory, cls._shared_parameters(config, spaces, memory.networks.parameters))
        return specs

    @classmethod
    def state_sentence(cls, config: Config, spaces: EnvironmentSpaces) -> str | None:
        """Say which networks read the state of the whole environment, if any; None where rows hold none, or unknown."""
        if spaces.state is None or cls.state_roles is None:
            return None
        name = config.algorithm.name
        if not cls.state_roles:
            return (
                f"environment.state: true, but no network of {name} reads the state, which is sent and kept for "
                "algorithms of one's own; leave it out, or choose MAPPO or QMIX"
            )
        flattened = ", its image flattened" if is_image(spaces.state) else ""
        roles = " and ".join(cls.state_roles)
        return f"environment.state: the {roles} networks of {name} read it as {spaces.state.width:,} numbers{flattened}"

    @classmethod
    def planned_memory(
        cls, config: Config, spaces: EnvironmentSpaces, specs: Mapping[str, NetworkSpec] | None = None
    ) -> Memory:
        """Predict what a run takes of memory.

        Raises:
            ConfigError: a section that does not fit the environment, or experience that holds nothing.
        """
        specs = cls.network_specs(config, spaces) if specs is None else specs
        numbers = {key: spec.numbers for key, spec in specs.items()}
        policies = [n for key, n in numbers.items() if key.startswith("actor/")]
        members = config.training.pop_size
        networks = Networks(
            sum(numbers.values()),
            sum(policies),
            len(policies),
            cls.with_targets,
            members,
            cls.layer_outputs(config, spaces, specs),
            is_recorded(config, list(specs.values()) * members),
        )
        return planned_memory(config, spaces, networks)

    @classmethod
    def layer_outputs(cls, config: Config, spaces: EnvironmentSpaces, specs: Mapping[str, NetworkSpec]) -> LayerOutputs:
        """Count what the layers of one member's networks give for one sample, of those that learn at one time.

        As it is here all networks do, each from a sample of its own agents' decisions.
        """
        return LayerOutputs.total(layer_outputs(spec) for spec in specs.values())

    @classmethod
    def _shared_parameters(cls, config: Config, spaces: EnvironmentSpaces, own: int) -> int | None:
        """Numbers in one member's networks if agents of a group shared theirs; None if these are not fewer."""
        try:
            specs = cls.network_specs(sharing(config), spaces)
        except ConfigError:  # a `network` section by agents
            return None
        shared = sum(spec.numbers for spec in specs.values())
        return shared if shared < own else None

    @classmethod
    @abstractmethod
    def experience(cls, config: Config, spaces: EnvironmentSpaces, device: torch.device) -> Experience:
        """Make an empty memory of the kind that the algorithm learns from, replay or rollouts.

        Raises:
            ConfigError: the configured size holds nothing.
        """

    @classmethod
    @abstractmethod
    def pace(cls, config: Config) -> Pace:
        """Make the rule that says when members' updates are to be made, by the env steps collected for them."""

    @classmethod
    @abstractmethod
    def exploration(cls, config: Config, member: Member) -> Exploration:
        """Describe how actors make a member's policies explore now, as it is sent to them."""

    # -- learning -------------------------------------------------------------------------------------------------

    @abstractmethod
    def update(self, due: Sequence[int], experience: Any) -> None:
        """Make one update of each member in `due` (positions in the population), counted in `Member.updates`.

        Args:
            due: Who is to be updated.
            experience: What `experience` made. Where members learn from whole rollouts, those of `due` are complete.
        """

    def learn(self, chosen: tuple[int, ...], batch: Batch, keys: Tensor) -> None:
        """Make one update from a batch that the caller drew; for people who write training loops of their own.

        Args:
            chosen: Positions in the population, rising.
            batch: A sample for each of them.
            keys: One a member, from `counter_rng.keys`, of whatever else is drawn.

        Raises:
            ConfigError: the algorithm does not learn from batches.
        """
        raise ConfigError(
            f"learn: {type(self).__name__} learns from whole rollouts; train it by train_multi_agent_on_policy"
        )

    @abstractmethod
    def snapshot(self) -> PolicySnapshot:
        """Copy the policies as they are now; quick, and the copy can be read on another thread."""

    def packed(self) -> Sequence[PackedNetworks]:
        """Return the stacked networks of all members; none of an algorithm that stacks them in a way of its own."""
        return ()

    def unpack(self) -> None:
        """Copy weights, targets, Adam moments and step counts from the stacked networks back into the members."""
        for networks in self.packed():
            networks.unpack()

    def release(self) -> None:
        """Let the members forget their own copies of what is stacked, until `unpack` gives them new ones.

        Called when updates have made the copies old. Without this the learner holds every number twice.
        """
        for networks in self.packed():
            networks.release()

    def close(self) -> None:
        """Free the stacked networks: the members' own copies are up to date, and nothing is learned here any more.

        Called before the next generation's networks are stacked, so that there are not two generations in memory.
        """
        for networks in self.packed():
            networks.close()

    @abstractmethod
    def metrics(self) -> dict[int, dict[str, float]]:
        """Return mean losses and the like since the last call, by member id and name."""
