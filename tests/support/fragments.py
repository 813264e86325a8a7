"""Fragments as an honest actor builds them, for tests to send and to spoil."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from covey.errors import FragmentError
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.ingest.validation import check_fragment


def spaces() -> EnvironmentSpaces:
    """Two walkers with Box actions from 1 to 2 (0 is outside), one speaker that says 5, 6 or 7."""
    seen = Box("float32", (4,), (-np.inf,) * 4, (np.inf,) * 4)
    walk = Box("float32", (2,), (1.0, 1.0), (2.0, 2.0))
    return EnvironmentSpaces.build(
        [
            AgentSpec("walker_0", seen, walk),
            AgentSpec("walker_1", seen, walk),
            AgentSpec("speaker_0", Box("float32", (3,), (0.0,) * 3, (1.0,) * 3), Discrete(3, start=5)),
        ]
    )


SPACES = spaces()
SCHEMA = RowSchema.of(SPACES)
S, F, C, T, L = RowKind.STEP, RowKind.FINAL, RowKind.CUT, RowKind.TAIL, RowKind.LEAD_IN


def order(slots: int = 2, steps: int = 8, eval_steps: int = 0) -> Order:
    """Slot i belongs to member i % 2."""
    made = Order(order_id=77, eval_steps=eval_steps)
    for i in range(slots):
        made.slots.add(slot=i, member_id=i % 2, steps=steps)
    return made


def columns(kinds: Sequence[int], seed: int = 0) -> Columns:
    """Rows of these kinds with honest numbers: zeros for actions that were not made."""
    rng = np.random.default_rng(seed)
    made = SCHEMA.empty(len(kinds))
    made["kind"][:] = kinds
    acted = np.isin(kinds, (S, L))
    for group in SPACES.groups:
        g, n = group.group_id, len(group)
        shape = made[f"{g}/observation"].shape
        made[f"{g}/observation"][:] = rng.normal(size=shape)
        made[f"{g}/reward"][:] = rng.normal(size=(len(kinds), n)) * acted[:, None]
        made[f"{g}/active"][:] = 1
        if isinstance(group.action, Discrete):
            action = rng.integers(5, 8, size=(len(kinds), n))
            made[f"{g}/action"][:] = action * acted[:, None]
        else:
            made[f"{g}/action"][:] = rng.uniform(1, 2, size=(len(kinds), n, 2)) * acted[:, None, None]
    _open_decisions(made, kinds)
    return made


def _open_decisions(made: Columns, kinds: Sequence[int]) -> None:
    """Lead-in rows are of one agent each, with ages that count down to 1."""
    for row in [i for i, kind in enumerate(kinds) if kind == L]:
        run = [*kinds[row:], 0]
        before = 0
        while before < row and kinds[row - 1 - before] == L:
            before += 1
        g, n = (("walker", 0), ("walker", 1), ("speaker", 0))[before % 3]
        made[f"{g}/age"][row, n] = next(i for i, kind in enumerate(run) if kind != L)


def fragment(streams: Sequence[Sequence[int]], values: Columns | None = None) -> Fragment:
    """Stream i is of slot i and has rows of these kinds."""
    made = Fragment(seq=1, order_id=77, schema_hash=SCHEMA.hash)
    for i, kinds in enumerate(streams):
        made.streams.add(
            slot=i,
            lead_in_rows=sum(k == L for k in kinds),
            rows=sum(k != L for k in kinds),
            steps=sum(k == S for k in kinds),
        )
    kinds = [k for stream in streams for k in stream]
    if kinds:
        made.blob, made.raw_bytes = SCHEMA.encode(columns(kinds) if values is None else values, 1)
    return made


def refused(spoilt: Fragment, **fields: int) -> str:
    """The reason for which a fragment is refused, as an answer to `order(**fields)`."""
    with pytest.raises(FragmentError) as caught:
        check_fragment(spoilt, order(**fields), SCHEMA, SPACES)
    assert str(caught.value)
    return caught.value.reason
