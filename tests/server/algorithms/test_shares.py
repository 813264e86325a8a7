"""A population divided among several learners learns to the bit what it learns in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.support import replays, rounds
from tests.support.members import assert_same_networks
from tests.support.plain_pqn import team_rollouts
from tests.support.plain_value_decomposition import ALIKE, UNLIKE, team_replay

from covey.config import Config
from covey.networks.ops import ACTIVATIONS
from covey.spaces import AgentSpec, EnvironmentSpaces, MultiBinary
from covey_server.algorithms import ALGORITHMS, build_networks
from covey_server.member import Member, MemberSizes

MEMBERS = 8

NARROW = EnvironmentSpaces.build(
    [AgentSpec(f"one_{i}", replays.box(1), replays.box(1)) for i in range(2)]
    + [AgentSpec("two_0", replays.box(2), replays.box(2))]
)
SWITCHES = EnvironmentSpaces.build(
    [AgentSpec("a_0", replays.box(1), MultiBinary(3)), AgentSpec("b_0", replays.box(3), replays.box(1))]
)
BOXES = {"boxes": replays.BOXES, "team": replays.TEAM, "turns": replays.TEAM_IN_TURNS}
OFF_POLICY = {"boxes": replays.BOXES, "mixed": replays.MIXED, "turns": replays.SEEN, "narrow": NARROW}
TEAMS = {"alike": ALIKE, "unlike": UNLIKE}
ON_POLICY = {"simultaneous": rounds.SIMULTANEOUS, "asynchronous": rounds.ASYNCHRONOUS, "switches": SWITCHES}

SHARES: tuple[tuple[range, ...], ...] = (
    (range(4), range(4, 8)),
    (range(4), range(4, 8)),
    (range(1), range(1, 8)),
    tuple(range(m, m + 1) for m in range(MEMBERS)),
)


class Case:
    """A random population: sizes, depths, activations, batch sizes and rhythms differ."""

    def __init__(self, algorithm: str, seed: int) -> None:
        self.rng = np.random.default_rng([seed, sum(map(ord, algorithm))])
        self.algorithm = algorithm
        teams = dict.fromkeys(("PQN", "QMIX", "VDN"), TEAMS)
        kinds = ({"IPPO": ON_POLICY, "MAPPO": ON_POLICY, "MASAC": BOXES} | teams).get(algorithm, OFF_POLICY)
        self.on_policy = kinds is ON_POLICY
        self.spaces = list(kinds.values())[seed % len(kinds)]
        if algorithm in ("MAPPO", "QMIX") and seed % 4 < 3:
            self.spaces = rounds.stated(self.spaces, "float32" if seed % 2 else "uint8")
        self.shared = bool(self.rng.random() < 0.5)
        self.normalised = seed % 6 == 5
        self.settings: dict[str, Any] = {} if algorithm == "PQN" else {"normalize_observations": seed % 2 == 1}
        if self.on_policy:
            self.settings["normalize_values"] = bool(self.rng.random() < 0.5)
            self.settings["scale_rewards"] = seed % 3 == 1
        elif kinds in (OFF_POLICY, BOXES):
            self.settings["actor_loss"] = str(self.rng.choice(["own", "joint"]))
            self.settings |= {"output_penalty": 0.01} if kinds is OFF_POLICY else {}
        self.config = self._config([16], [16], "ReLU", 16)

    def _config(self, hidden: Sequence[int], head: Sequence[int], activation: str, latent: int) -> Config:
        if self.on_policy:
            plain = rounds.config(shared=self.shared, name=self.algorithm, **self.settings)
        else:
            plain = replays.config(self.algorithm, shared=self.shared, **self.settings)
        layers = {"activation": activation, "layer_norm": self.normalised or self.algorithm == "PQN"}
        return Config.model_validate(
            plain.model_dump(mode="json", exclude_unset=True)
            | {
                "network": {
                    "latent_dim": latent,
                    "encoder_config": {"hidden_size": list(hidden), **layers},
                    "head_config": {"hidden_size": list(head), **layers},
                }
            }
        )

    def members(self) -> list[Member]:
        rng = np.random.default_rng(self.rng.bit_generator.state["state"]["state"] % (1 << 32))
        found = []
        few = int(rng.integers(1, 4))  # of the same few architectures
        for member_id in range(MEMBERS):
            own = np.random.default_rng([int(rng.integers(1 << 30)) if few == 3 else member_id % few, few])
            layers = own.integers(2, 40, own.integers(1, 3))
            head = own.integers(2, 40, own.integers(1, 3))
            made = self._config(layers.tolist(), head.tolist(), str(own.choice(ACTIVATIONS)), int(own.integers(8, 24)))
            numbers: dict[str, Any] = {"batch_size": int(rng.integers(1, 70)), "gamma": float(rng.uniform(0.5, 1))}
            if self.on_policy:
                numbers |= {"lr": float(rng.uniform(1e-4, 1e-2)), "update_epochs": int(rng.integers(1, 4))}
                numbers |= {"learn_step": int(rng.integers(10, 60))}
            elif self.algorithm == "PQN":
                numbers |= {"lr": float(rng.uniform(1e-4, 1e-2)), "update_epochs": int(rng.integers(1, 4))}
                numbers |= {"learn_step": int(rng.integers(10, 60)), "q_lambda": float(rng.uniform(0, 1))}
            else:
                rate = "lr" if self.algorithm in ("QMIX", "VDN") else "lr_actor"
                numbers |= {rate: float(rng.uniform(1e-4, 1e-2)), "tau": float(rng.uniform(0.01, 0.2))}
                numbers |= {"policy_freq": int(rng.integers(1, 4))} if self.algorithm == "MATD3" else {}
            found.append(
                Member(
                    member_id=member_id,
                    networks=build_networks(made, self.spaces, np.random.default_rng(member_id)),
                    hyperparameters=made.algorithm.initial_hyperparameters().changed(**numbers),
                )
            )
        return found

    def learn(
        self, members: Sequence[Member], share: range, dues: Sequence[Sequence[int]]
    ) -> dict[int, dict[str, float]]:
        """Let a share of the members learn, as one process of several would; returns what it says of them."""
        sizes = [MemberSizes.of(m) for m in members]
        own = [members[m] for m in share]
        learner = ALGORITHMS[self.algorithm](self.config, self.spaces, own, "cpu", sizes)
        replay = replays.filled(self.spaces) if self.algorithm in ("MADDPG", "MATD3", "MASAC") else None
        if self.algorithm in ("QMIX", "VDN"):
            replay = team_replay(self.spaces, losses=True)
        for i, due in enumerate(dues):
            here = [m - share.start for m in due if m in share]
            if here:
                learner.update(here, replay if replay is not None else self._rollouts([members[m] for m in due], i))
        learner.unpack()
        return learner.metrics()

    def _rollouts(self, members: Sequence[Member], i: int) -> Any:
        if self.algorithm == "PQN":
            return team_rollouts(self.spaces, {m.member_id: m.hyperparameters.learn_step // 2 for m in members}, i)
        steps = {m.member_id: max(1, m.hyperparameters.learn_step // rounds.SLOTS) for m in members}
        return rounds.together(self.spaces, steps, i)


@pytest.mark.parametrize("algorithm", ["IPPO", "MAPPO", "MADDPG", "MASAC", "MATD3", "PQN", "QMIX", "VDN"])
@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.slow if seed > 3 else ()) for seed in range(12)])
def test_members_learn_the_same_in_any_share_of_the_population(algorithm: str, seed: int) -> None:
    case = Case(algorithm, seed)
    together, divided = case.members(), case.members()
    everybody = list(range(MEMBERS))
    some = sorted(case.rng.choice(MEMBERS, 5, replace=False).tolist())
    dues = [everybody, some, everybody, everybody]
    said = case.learn(together, range(MEMBERS), dues)
    found: dict[int, dict[str, float]] = {}
    for share in SHARES[seed % len(SHARES)]:
        found |= case.learn(divided, share, dues)
    for one, other in zip(together, divided, strict=True):
        assert one.updates == other.updates > 0
        assert_same_networks(one, other)
    assert {m: repr(its) for m, its in said.items()} == {m: repr(its) for m, its in found.items()}
