"""Data classes of one member of a population, unpadded: what evolution changes and checkpoints store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from covey.config import Hyperparameters
from covey.networks import NetworkSpec, Params
from covey.networks.normalisation import Moments

Record = TypeVar("Record", bound=Hyperparameters)


def zeros_like(params: Params) -> Params:
    """Arrays of zeros in the shapes of the given parameters, such as the Adam moments of a new network."""
    return {name: np.zeros_like(p) for name, p in params.items()}


def is_finite(networks: Iterable[Params]) -> bool:
    """Whether all weights of these networks are finite numbers."""
    return all(bool(np.isfinite(values).all()) for params in networks for values in params.values())


@dataclass(frozen=True, slots=True)
class ReturnScale:
    """Units in which a critic predicts returns: (return - mean) / std.

    Attributes:
        mean: Running mean of returns.
        std: Running standard deviation of returns.
        rounds: Number of rollouts from which both were estimated.
    """

    mean: float = 0.0
    std: float = 1.0
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Temperature:
    """What a nat of a policy's entropy is worth, as it is learned: its logarithm, and Adam's state.

    Attributes:
        log_alpha: Logarithm of the temperature.
        first_moment: Adam's running mean of gradients.
        second_moment: Adam's running mean of squared gradients.
        adam_steps: Number of Adam steps made, for the bias correction.
    """

    log_alpha: float = 0.0
    first_moment: float = 0.0
    second_moment: float = 0.0
    adam_steps: int = 0

    @property
    def finite(self) -> bool:
        """Whether all of its numbers are finite."""
        return all(map(math.isfinite, (self.log_alpha, self.first_moment, self.second_moment)))


@dataclass(slots=True)
class Network:
    """A network's weights, target weights and optimiser state; all dictionaries have the spec's names and shapes.

    Attributes:
        spec: Architecture.
        params: Weights by parameter name. Empty, as are targets and moments, while a pack alone has them (`release`).
        target: Softly updated copy of the weights (target network); None for networks without one.
        first_moment: Adam's running mean of gradients.
        second_moment: Adam's running mean of squared gradients.
        adam_steps: Number of Adam steps made, for the bias correction.
        scale: Units of a critic's predictions.
        observed: Of a policy that reads normalised observations, what its agents have observed in training: statistics
            of the numbers that are normalised.
        earned: Of a critic with scaled rewards, statistics of its agents' discounted returns.
        temperature: Of a policy whose entropy is rewarded by a learned weight, that weight.
    """

    spec: NetworkSpec
    params: Params
    target: Params | None
    first_moment: Params
    second_moment: Params
    adam_steps: int = 0
    scale: ReturnScale = ReturnScale()
    observed: Moments | None = None
    earned: Moments | None = None
    temperature: Temperature | None = None

    @staticmethod
    def fresh(
        spec: NetworkSpec, rng: np.random.Generator, *, with_target: bool = True, orthogonal: bool = False
    ) -> Network:
        """Create a network with random initial weights, equal target weights and zero Adam moments.

        Args:
            spec: Its architecture.
            rng: Generator of the weights.
            with_target: Whether it has target weights.
            orthogonal: Whether weights start orthogonal.
        """
        params = spec.init(rng, orthogonal=orthogonal)
        target = {k: v.copy() for k, v in params.items()} if with_target else None
        return Network(spec, params, target, zeros_like(params), zeros_like(params))

    @property
    def released(self) -> bool:
        """Whether a pack alone has the network's numbers at present."""
        return not self.params

    def release(self) -> None:
        """Forget all numbers, which a pack has and gives back: every number would be in memory twice."""
        self.params, self.first_moment, self.second_moment = {}, {}, {}
        self.target = None if self.target is None else {}

    def clone(self) -> Network:
        """Copy the network, arrays included."""

        def copy(p: Params) -> Params:
            return {name: a.copy() for name, a in p.items()}

        return Network(
            self.spec,
            copy(self.params),
            None if self.target is None else copy(self.target),
            copy(self.first_moment),
            copy(self.second_moment),
            self.adam_steps,
            self.scale,
            self.observed,
            self.earned,
            self.temperature,
        )


@dataclass(slots=True, kw_only=True)
class Member:
    """One individual of the population: policies and critics for all agents, hyperparameters, and its training totals.

    Attributes:
        member_id: Number that no other member of the run ever has.
        networks: Networks keyed "<role>/<network id>". Roles are the algorithm's ("actor", "critic", "critic_1", ...);
            network ids are agent ids, or group ids where the agents of a group share parameters.
        hyperparameters: Its own values of the hyperparameters that evolution may change; never changed in place.
        parent_id: Member that it is a mutated copy of; None for members of the first population.
        generation: Generation in which it was created.
        env_steps: Env steps trained on, those of its ancestors included.
        updates: Critic updates made, those of its ancestors included.
        unpaid_steps: Env steps accepted since the last update became due; `unpaid_steps // learn_step` updates are due
            that were not made yet.
        fitness: Mean return of its newest evaluation; None before the first one.
        fitness_stderr: Standard error of `fitness`.
        mutation: How it was created: "initial", "none", "architecture", "parameters", "activation", "rl_hp" or
            "elite"; in multi-frequency selection also "stayed" or "migrant".
        change: The mutation in words, such as "head.add_node +32" or "lr_actor 0.001 -> 0.0012".
    """

    member_id: int
    networks: dict[str, Network]
    hyperparameters: Hyperparameters
    parent_id: int | None = None
    generation: int = 0
    env_steps: int = 0
    updates: int = 0
    unpaid_steps: int = 0
    fitness: float | None = None
    fitness_stderr: float | None = None
    mutation: str = "initial"
    change: str = ""

    @property
    def diverged(self) -> bool:
        """Whether some number of its networks, moments and temperatures included, is not finite any more."""
        if any(n.temperature is not None and not n.temperature.finite for n in self.networks.values()):
            return True
        own = [(n.params, n.target or {}, n.first_moment, n.second_moment) for n in self.networks.values()]
        return not is_finite(arrays for network in own for arrays in network)

    def release(self) -> None:
        """Forget all numbers of its networks."""
        for network in self.networks.values():
            network.release()

    def own(self, record: type[Record]) -> Record:
        """The member's hyperparameters, as the record that an algorithm has of them.

        Raises:
            TypeError: they are another algorithm's.
        """
        if not isinstance(self.hyperparameters, record):
            raise TypeError(
                f"member {self.member_id} has {type(self.hyperparameters).__name__}, expected {record.__name__}"
            )
        return self.hyperparameters


@dataclass(frozen=True, slots=True)
class MemberSizes:
    """What of a member decides how much others are padded: its architectures, and the hyperparameters that are sizes.

    Attributes:
        specs: Architectures of its networks, by the keys of `Member.networks`.
        hyperparameters: As `Member.hyperparameters`.
    """

    specs: Mapping[str, NetworkSpec]
    hyperparameters: Hyperparameters

    @staticmethod
    def of(member: Member) -> MemberSizes:
        """Take the sizes from a member."""
        return MemberSizes({key: n.spec for key, n in member.networks.items()}, member.hyperparameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageEntry:
    """Record of one member, living or dead, without its weights; fields are those of `Member`.

    Attributes:
        hyperparameters: Values of its hyperparameters, by name.
        architecture: Layer widths and activations of its networks, by network.
        died_generation: Generation at whose start the member was replaced; None while it lives.
        first_fitness: Fitness in the generation in which it was created; None before, and where members are not
            evaluated together.
        parent_fitness: What its parent had in the same evaluation; None if the parent did not live on.
    """

    member_id: int
    parent_id: int | None
    generation: int
    mutation: str
    change: str
    fitness: float | None
    fitness_stderr: float | None
    env_steps: int
    updates: int
    hyperparameters: dict[str, float | int] = field(default_factory=dict)
    architecture: dict[str, object] = field(default_factory=dict)
    died_generation: int | None = None
    first_fitness: float | None = None
    parent_fitness: float | None = None
