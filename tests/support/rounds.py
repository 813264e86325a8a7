"""Members of IPPO and rounds for them: random rows of agents of every kind, at once or at different times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.config import Config, parse_config
from covey.rows import STATE, Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, Space
from covey_server.algorithms import build_networks
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.member import Member

SEED = 11
SLOTS = 3


def box(n: int, low: float = -1.0, high: float = 1.0, dtype: str = "float32") -> Box:
    return Box(dtype, (n,), (low,) * n, (high,) * n)


SIMULTANEOUS = EnvironmentSpaces.build(
    [AgentSpec("speaker_0", box(3), box(2, 0, 4)), AgentSpec("listener_0", box(5), Discrete(3, start=2))]
)
ASYNCHRONOUS = EnvironmentSpaces.build(
    [
        AgentSpec("walker_0", box(4), box(2, 1, 5)),
        AgentSpec("talker_0", Discrete(3), Discrete(4, start=2), masked=True),
        AgentSpec("walker_1", box(4), box(2, 1, 5)),
        AgentSpec("talker_1", Discrete(3), Discrete(4, start=2), masked=True),
        AgentSpec("driver_0", box(3, 0, 255, "uint8"), MultiDiscrete((3, 2)), masked=True),
        AgentSpec("switch_0", MultiBinary(5), MultiBinary(3)),
    ],
    asynchronous=True,
)


def stated(spaces: EnvironmentSpaces, dtype: str = "uint8") -> EnvironmentSpaces:
    """The same, where rows also hold a state of the whole environment: four numbers in two rows."""
    low, high = (0.0, 255.0) if dtype == "uint8" else (-100.0, 100.0)
    return replace(spaces, state=Box(dtype, (2, 2), (low,) * 4, (high,) * 4))


def config(shared: bool = True, hidden: Sequence[int] = (6,), latent: int = 5, **settings: Any) -> Config:
    return parse_config(
        {
            "algorithm": {"name": "IPPO", "share_parameters": shared, **settings},
            "environment": {"name": "none"},
            "network": {
                "latent_dim": latent,
                "encoder_config": {"hidden_size": list(hidden)},
                "head_config": {"hidden_size": [7]},
            },
            "training": {"seed": SEED},
        }
    )


def drawn(space: Space, rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    """Random elements of a space; Box ones spill over the bounds, as samples do."""
    match space:
        case Discrete(n, start):
            return start + rng.integers(0, n, shape)
        case MultiDiscrete(nvec):
            return rng.integers(0, nvec, (*shape, len(nvec)))
        case MultiBinary(n):
            return rng.integers(0, 2, (*shape, n))
        case Box(dtype, own, low, high) if np.dtype(dtype).kind == "u":
            drawn_as = rng.integers(np.asarray(low, int), np.asarray(high, int) + 1, (*shape, len(low)))
            return drawn_as.reshape(*shape, *own)
        case Box(_, own, low, high):
            middle, spread = (np.asarray(low) + high) / 2, 0.6 * (np.asarray(high) - low)
            return rng.normal(middle, spread, (*shape, len(low))).reshape(*shape, *own)
    raise AssertionError(space)


def stream_rows(spaces: EnvironmentSpaces, rng: np.random.Generator, steps: int) -> Columns:
    """A stream: episodes of five steps, some of them cut short by a time limit, and a tail row."""
    kinds: list[int] = []
    for step in range(steps):
        kinds.append(RowKind.STEP)
        if step % 5 == 4:
            kinds.append(RowKind.FINAL)
    if kinds[-1] == RowKind.STEP:
        kinds.append(RowKind.TAIL)
    kind = np.array(kinds, np.uint8)
    last = np.append(kind[1:] == RowKind.FINAL, False)
    columns = RowSchema.of(spaces).empty(len(kind))
    columns["kind"][:] = kind
    if spaces.state is not None:
        columns[STATE][:] = drawn(spaces.state, rng, len(kind))
    for g in spaces.groups:
        n, name = len(g), g.group_id
        columns[f"{name}/observation"][:] = drawn(g.observation, rng, len(kind), n)
        columns[f"{name}/action"][:] = drawn(g.action, rng, len(kind), n)
        columns[f"{name}/reward"][:] = rng.normal(size=(len(kind), n))
        active = np.ones((len(kind), n), int)
        if spaces.asynchronous:
            active = rng.choice(3, p=[0.4, 0.5, 0.1], size=(len(kind), n))
        columns[f"{name}/active"][:] = active * (kind != RowKind.FINAL)[:, None]
        flags = rng.random((len(kind), n)) < 0.5
        columns[f"{name}/terminated"][:] = last[:, None] & flags
        columns[f"{name}/truncated"][:] = last[:, None] & ~flags
        if g.masked:
            # Legal: what was done, and half of the rest.
            columns[f"{name}/action_mask"][:] = rng.random(columns[f"{name}/action_mask"].shape) < 0.5
            sizes = [g.action.n] if isinstance(g.action, Discrete) else list(g.action.nvec)  # type: ignore[union-attr]
            start = g.action.start if isinstance(g.action, Discrete) else 0
            chosen = (
                columns[f"{name}/action"].reshape(len(kind), n, -1).astype(int) - start + np.cumsum([0, *sizes[:-1]])
            )
            np.put_along_axis(columns[f"{name}/action_mask"], chosen, 1, -1)
    return columns


def gathered(spaces: EnvironmentSpaces, member_id: int, steps: int, seed: int) -> Rollouts:
    """A round of one member: fragments of three slots."""
    rng = np.random.default_rng([seed, member_id])
    rollouts = Rollouts(spaces)
    for first in range(0, steps, 8):
        parts = [stream_rows(spaces, rng, min(8, steps - first)) for _ in range(SLOTS)]
        columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        rows = len(parts[0]["kind"])
        streams = [Stream(s, member_id, s * rows, rows, 0, min(8, steps - first), False) for s in range(SLOTS)]
        rollouts.insert(member_id, columns, streams, "actor")
    return rollouts


def together(spaces: EnvironmentSpaces, rounds: dict[int, int], seed: int) -> Rollouts:
    """Rounds of several members, member id to env steps of each slot."""
    merged = Rollouts(spaces)
    for member_id, steps in rounds.items():
        alone = gathered(spaces, member_id, steps, seed)
        for held in alone._rounds[member_id].fragments:
            merged.insert(member_id, held.columns, held.streams, held.actor)
    return merged


def member(member_id: int, made: Config, spaces: EnvironmentSpaces, **hyperparameters: float) -> Member:
    networks = build_networks(made, spaces, np.random.default_rng(member_id))
    return Member(
        member_id=member_id,
        networks=networks,
        hyperparameters=made.algorithm.initial_hyperparameters().changed(**hyperparameters),
        updates=member_id,
    )
