"""Members of MADDPG, MATD3 and MASAC, and replays: random rows of agents of every kind, at once or in turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.support.random_play import fragments, play

from covey.config import Config, parse_config
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, choices
from covey.v1.fragment_pb2 import SlotStream
from covey_server.algorithms import build_networks
from covey_server.experience.replay import Replay
from covey_server.member import Member

SEED = 11


def box(n: int) -> Box:
    """n numbers from -1 to 1."""
    return Box("float32", (n,), (-1.0,) * n, (1.0,) * n)


BOXES = EnvironmentSpaces.build(
    [AgentSpec("speaker_0", box(3), Box("float32", (2,), (0, 0), (1, 4))), AgentSpec("listener_0", box(5), box(3))]
)
MIXED = EnvironmentSpaces.build(
    [
        AgentSpec("walker_0", box(4), box(2)),
        AgentSpec("talker_0", box(3), Discrete(3, start=2)),
        AgentSpec("walker_1", box(4), box(2)),
        AgentSpec("talker_1", box(3), Discrete(3, start=2)),
        AgentSpec("other_0", box(3), Discrete(4)),
    ]
)
SEEN = EnvironmentSpaces.build(
    [
        AgentSpec("walker_0", Discrete(4, start=1), box(2)),
        AgentSpec("talker_0", Box("uint8", (2, 2), (0,) * 4, (8,) * 4), Discrete(3, start=2), masked=True),
        AgentSpec("walker_1", Discrete(4, start=1), box(2)),
        AgentSpec("talker_1", Box("uint8", (2, 2), (0,) * 4, (8,) * 4), Discrete(3, start=2), masked=True),
        AgentSpec("other_0", box(3), Discrete(4)),
    ],
    asynchronous=True,
)
SEVERAL = EnvironmentSpaces.build(
    [
        AgentSpec("pointer_0", box(4), MultiDiscrete((3, 2, 3))),
        AgentSpec("walker_0", box(3), Box("float32", (2,), (0, 0), (1, 4))),
        AgentSpec("pointer_1", box(4), MultiDiscrete((3, 2, 3))),
        AgentSpec("panel_0", box(2), MultiBinary(3)),
        AgentSpec("talker_0", box(3), Discrete(3, start=2)),
    ]
)
SEVERAL_IN_TURNS = EnvironmentSpaces.build(
    [
        AgentSpec("pointer_0", box(4), MultiDiscrete((3, 2, 3)), masked=True),
        AgentSpec("walker_0", box(3), box(2)),
        AgentSpec("pointer_1", box(4), MultiDiscrete((3, 2, 3)), masked=True),
        AgentSpec("panel_0", box(2), MultiBinary(3)),
        AgentSpec("talker_0", box(3), Discrete(3, start=2), masked=True),
    ],
    asynchronous=True,
)
CASES: dict[str, tuple[EnvironmentSpaces, dict[str, Any]]] = {
    "boxes": (BOXES, {}),
    "mixed kinds": (MIXED, {"max_grad_norm_actor": 0.5, "max_grad_norm_critic": 1.0}),
    "shared groups": (MIXED, {"shared": True}),
    "several choices": (SEVERAL, {"shared": True}),
    "several choices in turns": (SEVERAL_IN_TURNS, {}),
    "turns": (SEEN, {}),
    "turns, shared with indicator": (SEEN, {"shared": True, "agent_indicator": True}),
}

WALKERS = [
    AgentSpec("walker_0", box(4), box(2)),
    AgentSpec("pointer_0", box(3), Box("float64", (3,), (-1, 0, 0), (1, 1, 4))),
    AgentSpec("walker_1", box(4), box(2)),
    AgentSpec("speaker_0", Discrete(4), box(3)),
]
TEAM = EnvironmentSpaces.build(WALKERS)
TEAM_IN_TURNS = EnvironmentSpaces.build(WALKERS, asynchronous=True)
BOX_CASES: dict[str, tuple[EnvironmentSpaces, dict[str, Any]]] = {
    "boxes": (BOXES, {}),
    "shared boxes": (TEAM, {"shared": True, "max_grad_norm_actor": 0.5, "max_grad_norm_critic": 1.0}),
    "boxes in turns": (TEAM_IN_TURNS, {}),
    "boxes in turns, shared with indicator": (TEAM_IN_TURNS, {"shared": True, "agent_indicator": True}),
}
"""For algorithms that learn floating-point Boxes alone."""

FAST = ("boxes", "several choices", "turns, shared with indicator")
EACH_CASE = [pytest.param(case, marks=() if case in FAST else pytest.mark.slow) for case in CASES]
"""All cases, as parameters: the fast loop has the simplest and the richest ones."""

EACH_ALGORITHM = [
    *(
        pytest.param(algorithm, case, marks=() if case in FAST else pytest.mark.slow)
        for algorithm in ("MADDPG", "MATD3")
        for case in CASES
    ),
    *(pytest.param("MASAC", case, marks=() if case != "boxes in turns" else pytest.mark.slow) for case in BOX_CASES),
]
"""All algorithms of joint critics on replay, each with the cases that it can learn."""


def case_of(case: str) -> tuple[EnvironmentSpaces, dict[str, Any]]:
    """The spaces and settings of a case of any algorithm."""
    return (CASES | BOX_CASES)[case]


def spaces_for(algorithm: str) -> EnvironmentSpaces:
    """Agents of all kinds that the algorithm can learn, some of which may share networks."""
    return TEAM if algorithm == "MASAC" else MIXED


def if_matd3(algorithm: str, **settings: float) -> dict[str, Any]:
    """Settings that MATD3 has and MADDPG has not."""
    return settings if algorithm == "MATD3" else {}


def config(
    algorithm: str, shared: bool = False, hidden: Sequence[int] = (6,), latent: int = 5, **settings: Any
) -> Config:
    return parse_config(
        {
            "algorithm": {"name": algorithm, "share_parameters": shared, **settings},
            "environment": {"name": "none"},
            "network": {
                "latent_dim": latent,
                "encoder_config": {"hidden_size": list(hidden)},
                "head_config": {"hidden_size": [7]},
            },
            "training": {"seed": SEED},
        }
    )


def filled(
    spaces: EnvironmentSpaces, episodes: int = 12, length: int = 9, device: str = "cpu", kind: type[Replay] = Replay
) -> Replay:
    """Random episodes: half end by the environment's rules, half by a time limit.

    Agents are absent at times; where they are asynchronous they also wait and are forced.
    """
    if spaces.asynchronous:
        replay = kind(spaces, 1000, 1 << 24, device)
        for cut in fragments(play(spaces, episodes, 0, forced=0.3), spaces, [5, 8]):
            replay.insert(cut.columns, cut.streams)
        return replay
    rng = np.random.default_rng(0)
    replay = kind(spaces, 1000, 1 << 24, device)
    for episode in range(episodes):
        columns = RowSchema.of(spaces).empty(length + 1)
        columns["kind"][:] = [RowKind.STEP] * length + [RowKind.FINAL]
        for group in spaces.groups:
            for name in ("observation", "reward", "action"):
                column = columns[f"{group.group_id}/{name}"]
                column[:] = rng.normal(size=column.shape)
            if not isinstance(group.action, Box):
                action = columns[f"{group.group_id}/action"]
                first = group.action.start if isinstance(group.action, Discrete) else 0
                action[:] = first + rng.integers(0, np.reshape(choices(group.action), group.action.shape), action.shape)
            columns[f"{group.group_id}/active"][:] = rng.random((length + 1, len(group))) < 0.8
            columns[f"{group.group_id}/{'terminated' if episode % 2 else 'truncated'}"][length - 1] = 1
        replay.insert(columns, [SlotStream(rows=length + 1, steps=length)])
    return replay


def member(member_id: int, made: Config, spaces: EnvironmentSpaces, **hyperparameters: float) -> Member:
    """A fresh member; `already` is how often it has been updated."""
    already = int(hyperparameters.pop("already", 0))
    networks = build_networks(made, spaces, np.random.default_rng(member_id))
    return Member(
        member_id=member_id,
        networks=networks,
        hyperparameters=made.algorithm.initial_hyperparameters().changed(**hyperparameters),
        updates=already,
    )


def population(algorithm: str, spaces: EnvironmentSpaces, shared: bool = False, **settings: Any) -> list[Member]:
    """Four members whose widths, batch sizes, rates, gammas, delays and (the last one's) depth differ."""

    def made(hidden: Sequence[int], latent: int) -> Config:
        return config(algorithm, shared, hidden, latent, **settings)

    delays = [if_matd3(algorithm, policy_freq=f) for f in (2, 1, 2, 3)]
    return [
        member(5, made((6,), 5), spaces, batch_size=8, lr_actor=3e-3, lr_critic=1e-2, gamma=0.9, tau=0.1, **delays[0]),
        member(
            2, made((4,), 9), spaces, batch_size=5, lr_actor=1e-3, lr_critic=3e-3, gamma=0.95, tau=0.05, **delays[1]
        ),
        member(9, made((6,), 5), spaces, batch_size=8, already=1, lr_actor=1e-2, gamma=0.5, tau=0.02, **delays[2]),
        member(7, made((6, 3), 4), spaces, batch_size=3, lr_actor=2e-3, gamma=0.99, tau=0.3, **delays[3]),
    ]
