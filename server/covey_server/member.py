"""One individual of the population, in its natural shapes: what evolution works on and checkpoints hold."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from covey.networks import NetworkSpec, Params

Hyperparameters = dict[str, float | int]
"""Evolvable values by name, those of `covey.config.EVOLVABLE` that the algorithm has."""


def zeros_like(params: Params) -> Params:
    """Zeros in the same shapes: moments of a network that was never updated."""
    return {name: np.zeros_like(p) for name, p in params.items()}


@dataclass(frozen=True, slots=True)
class ReturnScale:
    """The units in which a critic predicts returns: (return - mean) / std; `rounds` have told so far."""

    mean: float = 0.0
    std: float = 1.0
    rounds: int = 0


@dataclass(slots=True)
class Network:
    """A network with all that moves along with its weights; all dictionaries have the spec's names and shapes."""

    spec: NetworkSpec
    params: Params
    target: Params | None  # soft-updated copy; None for roles without one
    first_moment: Params
    second_moment: Params
    adam_steps: int = 0
    scale: ReturnScale = ReturnScale()

    @staticmethod
    def fresh(spec: NetworkSpec, rng: np.random.Generator, *, with_target: bool = True) -> Network:
        """Initial weights, an equal target, zero moments."""
        params = spec.init(rng)
        target = {k: v.copy() for k, v in params.items()} if with_target else None
        return Network(spec, params, target, zeros_like(params), zeros_like(params))

    def clone(self) -> Network:
        """A deep copy."""

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
        )


@dataclass(slots=True, kw_only=True)
class Member:
    """Policies and critics for all agents, hyperparameters, and the ledger of what it has done.

    `networks` is keyed "<role>/<network id>": the roles are the algorithm's ("actor", "critic", "critic_1" ...), the
    network ids those of `covey.networks.resolve.network_ids` (agent ids, or group ids where parameters are shared).
    """

    member_id: int
    networks: dict[str, Network]
    hyperparameters: Hyperparameters
    parent_id: int | None = None
    generation: int = 0  # in which it was born
    env_steps: int = 0  # along the line of parents
    updates: int = 0  # critic updates, along the line of parents
    unpaid_steps: int = 0  # env steps that count towards the next updates: owes unpaid_steps // learn_step
    fitness: float | None = None  # mean of its newest evaluation
    fitness_stderr: float | None = None
    mutation: str = "initial"  # or "none", "architecture", "parameters", "activation", "rl_hp", "elite"
    change: str = ""  # in words: "head.add_node +32", "lr_actor 0.001 -> 0.0012"

    @property
    def updates_owed(self) -> int:
        """Whole updates that its accepted env steps have earned and that were not made yet."""
        return self.unpaid_steps // int(self.hyperparameters["learn_step"])


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageEntry:
    """What is remembered of every member that ever lived."""

    member_id: int
    parent_id: int | None
    generation: int
    mutation: str
    change: str
    fitness: float | None
    fitness_stderr: float | None
    env_steps: int
    updates: int
    hyperparameters: Hyperparameters = field(default_factory=dict)
    architecture: dict[str, object] = field(default_factory=dict)
    died_generation: int | None = None
