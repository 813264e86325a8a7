"""What comes over a wire: rows, fragments, parts, spaces, joins; and, at an actor, orders."""

from __future__ import annotations

import functools
from random import Random
from typing import NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray
from tests.fuzz.mutate import FLOATS, INTEGERS, spoil_bytes, spoil_message
from tests.fuzz.spaces import ENVIRONMENTS, check_spaces, first_values
from tests.fuzz.target import Target

from covey.collect.parts import FragmentAssembler, split_fragment
from covey.errors import ConfigError, FragmentError, RefusedError, SpaceError
from covey.rows import MAX_RAW_BYTES, Active, Columns, RowKind, RowSchema, leaf_columns
from covey.spaces import (
    Box,
    EnvironmentSpaces,
    choices,
)
from covey.v1.actor_service_pb2 import JoinRequest
from covey.v1.environment_pb2 import EnvironmentSpaces as SpacesMessage
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.wire.messages import spaces_from_proto, spaces_to_proto
from covey_server.ingest.validation import check_fragment
from covey_server.orders.sessions import MAX_TEXT, Sessions, check_same_spaces

S, F, C, T, L = RowKind.STEP, RowKind.FINAL, RowKind.CUT, RowKind.TAIL, RowKind.LEAD_IN
STREAMS = ((S, T), (S, S, F), (S, F, S, S, T), (C,), (S, C, S, F), (L, S, S, T), (L, L, S, F, C, S, T), (S,) * 8 + (T,))


class Sent(NamedTuple):
    """A fragment as it came, and what it came for."""

    spaces: EnvironmentSpaces
    order: Order
    fragment: Fragment
    unclipped: bool


class Blob(NamedTuple):
    """A blob, and what was said of it."""

    spaces: EnvironmentSpaces
    blob: bytes
    rows: int
    raw_bytes: int


def honest_columns(spaces: EnvironmentSpaces, kinds: tuple[int, ...], seed: int) -> Columns:
    """Rows of these kinds that a learner takes."""
    rng = np.random.default_rng(seed)
    made = RowSchema.of(spaces).empty(len(kinds))
    made["kind"][:] = kinds
    acted = np.isin(kinds, (S, L))
    for group in spaces.groups:
        name = group.group_id
        made[f"{name}/reward"][:] = rng.normal(size=made[f"{name}/reward"].shape) * acted[:, None]
        made[f"{name}/active"][:] = Active.CHOSE
        for column, _ in leaf_columns(name, "observation", group.observation):
            made[column][:] = rng.integers(0, 2, made[column].shape)
        for column, space in leaf_columns(name, "action", group.action):
            action = made[column]
            if isinstance(space, Box):
                action[acted] = space.low[0]
                continue
            values = choices(space)
            drawn = first_values(space) + rng.integers(0, values, (acted.sum(), len(group), len(values)))
            action[acted] = drawn.reshape(acted.sum(), *action.shape[1:])
        if group.masked:
            made[f"{name}/action_mask"][:] = 1
    for row in (i for i, kind in enumerate(kinds) if kind == L):
        # Of the one agent that decided in it: agents in the sequence of groups, ages counting down to 1.
        agent = sum(1 for kind in kinds[:row] if kind == L) % 2
        left = next(i for i, kind in enumerate((*kinds[row:], 0)) if kind != L)
        made[f"{spaces.groups[agent].group_id}/age"][row, 0] = left
    return made


@functools.cache
def _honest(environment: int, seed: int) -> tuple[Order, Fragment, Columns]:
    """One of a few honest answers to an order."""
    rng, spaces = Random(seed), ENVIRONMENTS[environment]
    schema = RowSchema.of(spaces)
    order = Order(order_id=77, eval_steps=rng.choice((0, 20)))
    fragment = Fragment(seq=1, order_id=77, schema_hash=schema.hash, wait_s=0.1, work_s=1.0)
    kinds: tuple[int, ...] = ()
    for slot in range(rng.choice((1, 2, 3))):
        stream = rng.choice([s for s in STREAMS if L not in s or (slot == 0 and not kinds)])
        order.slots.add(slot=slot, member_id=slot % 2, steps=8)
        fragment.streams.add(
            slot=slot,
            lead_in_rows=stream.count(L),
            rows=len(stream) - stream.count(L),
            steps=stream.count(S),
        )
        for _ in range(stream.count(F)):
            fragment.episodes.add(slot=slot, member_id=slot % 2, length=3, returns=[1.0] * len(spaces.agents))
        kinds += stream
    if order.eval_steps:
        fragment.eval_steps = 10
        fragment.episodes.add(
            evaluation=True,
            seed=3,
            length=5,
            returns=[0.5] * len(spaces.agents),
            policies=bytes(16 * len(spaces.agents)),
        )
        fragment.faults.add(slot=0, message="ValueError: no")
    columns = honest_columns(spaces, kinds, seed)
    fragment.blob, fragment.raw_bytes = schema.encode(columns, 1)
    return order, fragment, columns


def honest(rng: Random) -> tuple[EnvironmentSpaces, Order, Fragment, Columns]:
    """An order, and an honest answer to it."""
    environment = rng.randrange(len(ENVIRONMENTS))
    return ENVIRONMENTS[environment], *_honest(environment, rng.randrange(24))


def _spoil_columns(rng: Random, columns: Columns) -> Columns:
    """Some numbers, anywhere, set to what nobody expects."""
    spoilt: Columns = {name: array.copy() for name, array in columns.items()}
    for _ in range(rng.choice((1, 1, 3))):
        flat = spoilt[rng.choice(list(spoilt))].reshape(-1)
        size = flat.dtype.itemsize
        first = rng.randrange(len(flat))
        where = slice(first, first + rng.choice((1, 1, 4, len(flat))))
        with np.errstate(over="ignore"):
            if flat.dtype.kind == "f":
                flat[where] = rng.choice(FLOATS)
            else:  # as bytes: also truth values that are neither 0 nor 1
                number = (rng.choice(INTEGERS) & (2 ** (8 * size) - 1)).to_bytes(size, "little")
                flat.view(np.uint8).reshape(-1, size)[where] = np.frombuffer(number, np.uint8)
    return spoilt


def _frame(rng: Random, raw: bytes) -> bytes:
    """A zstd frame, or several, of a kind that actors do not send."""
    match rng.randrange(9):
        case 0:
            return zstandard.ZstdCompressor(level=1, write_content_size=False).compress(raw)
        case 1:
            return zstandard.ZstdCompressor(level=1, write_checksum=False).compress(raw)
        case 2:
            half = len(raw) // 2
            return b"".join(zstandard.ZstdCompressor(level=1).compress(part) for part in (raw[:half], raw[half:]))
        case 3:  # a frame to be skipped, of the right claimed size
            return b"\x50\x2a\x4d\x18" + len(raw).to_bytes(4, "little") + raw
        case 4:
            return _bomb()
        case 5:  # window and content far over what follows: descriptor, window byte, 8 bytes of content size
            claimed = rng.choice((len(raw), *(n for n in INTEGERS if 0 <= n < 2**64)))
            window = rng.randrange(256)
            return b"\x28\xb5\x2f\xfd" + b"\xc4" + bytes([window]) + claimed.to_bytes(8, "little") + rng.randbytes(8)
        case 6:
            parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=1, write_checksum=1)
            whole = zstandard.ZstdCompressor(compression_params=parameters).compress(raw)
            return whole[: rng.choice((len(whole), len(whole) - 1, 14))]
        case 7:
            return zstandard.ZstdCompressor(level=19, write_checksum=True).compress(raw + bytes(rng.choice((1, 100))))
        case _:
            return rng.choice((b"", b"\x28\xb5\x2f\xfd", raw[:64], bytes(2048)))


@functools.cache
def _bomb() -> bytes:
    """256 MiB in 8 KiB."""
    return zstandard.ZstdCompressor(level=1).compress(bytes(256 << 20))


def _hostile_blob(rng: Random) -> Blob:
    spaces, _, fragment, columns = honest(rng)
    blob, rows, raw_bytes = fragment.blob, len(columns["kind"]), fragment.raw_bytes
    match rng.randrange(5):
        case 0:
            blob = spoil_bytes(rng, blob)
        case 1:
            blob = _frame(rng, b"".join(a.tobytes() for a in columns.values()))
        case 2:
            rows = rng.choice([n for n in INTEGERS if 0 <= n < 2**40])
            raw_bytes = rng.choice((raw_bytes, rows * RowSchema.of(spaces).row_bytes))
        case 3:
            blob, raw_bytes = RowSchema.of(spaces).encode(_spoil_columns(rng, columns), 1)
        case _:
            raw_bytes = rng.choice([n for n in INTEGERS if 0 <= n < 2**32])
    return Blob(spaces, blob, rows, raw_bytes)


def _decode_blob(hostile: Blob) -> None:
    schema = RowSchema.of(hostile.spaces)
    columns = schema.decode(hostile.blob, hostile.rows, hostile.raw_bytes)
    assert hostile.raw_bytes <= MAX_RAW_BYTES
    assert [(n, str(a.dtype), a.shape) for n, a in columns.items()] == [
        (c.name, c.dtype, (hostile.rows, *c.shape)) for c in schema.columns
    ]


def _hostile_fragment(rng: Random) -> Sent:
    spaces, order, fragment, columns = honest(rng)
    sent = Fragment()
    sent.CopyFrom(fragment)
    draw = rng.random()
    if draw < 0.55:
        sent.blob, sent.raw_bytes = RowSchema.of(spaces).encode(_spoil_columns(rng, columns), 1)
    elif draw < 0.9:
        sent = spoil_message(rng, sent)
    elif draw < 0.95:
        sent.blob = _frame(rng, b"".join(a.tobytes() for a in columns.values()))
    return Sent(spaces, order, sent, rng.random() < 0.2)


def _decode_fragment(hostile: Sent) -> None:
    spaces = hostile.spaces
    accepted = check_fragment(
        hostile.fragment, hostile.order, RowSchema.of(spaces), spaces, unclipped=hostile.unclipped
    )
    columns = accepted.columns
    assert accepted.rows == len(columns["kind"])
    assert accepted.steps == int((columns["kind"] == S).sum()) == sum(accepted.steps_by_member.values())
    made = np.isin(columns["kind"], (S, L))[:, None]
    for group in spaces.groups:
        name = group.group_id
        actions = leaf_columns(name, "action", group.action)
        for column, _ in (*leaf_columns(name, "observation", group.observation), *actions):
            _check_numbers(columns[column])
        _check_numbers(columns[f"{name}/reward"])
        acted = made & (np.asarray(columns[f"{name}/active"], np.uint8) > 0)
        for column, space in actions:
            if values := choices(space):
                chosen = columns[column][acted].astype(np.int64) - first_values(space).reshape(space.shape)
                assert ((chosen >= 0) & (chosen < np.asarray(values).reshape(space.shape))).all()


def _check_numbers(values: NDArray[np.generic]) -> None:
    assert np.isfinite(np.asarray(values, np.float64)).all()
    if values.dtype == bool:
        assert (values.view(np.uint8) <= 1).all(), "truth values that are neither 0 nor 1"


def _hostile_parts(rng: Random) -> list[Fragment]:
    _, _, fragment, _ = honest(rng)
    parts = split_fragment(fragment, max(300, fragment.ByteSize() // 3))
    parts = [spoil_message(rng, p) if rng.random() < 0.2 else p for p in parts]
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(parts))
        parts[at:at] = [parts[rng.randrange(len(parts))]] * rng.choice((1, 2, 30))
    return parts


MAX_WHOLE = 4000


def _decode_parts(hostile: list[Fragment]) -> None:
    assembler = FragmentAssembler(MAX_WHOLE)
    for part in hostile:
        whole = assembler.add(part)
        assert whole is None or whole is part or (len(whole.blob) <= MAX_WHOLE and not whole.parts)


def _hostile_spaces(rng: Random) -> SpacesMessage:
    message = spaces_to_proto(rng.choice(ENVIRONMENTS))
    if rng.random() < 0.05:
        message.agents[0].observation.box.shape[:] = rng.choice(([2**21], [2**24], [2**12, 2**12], [2**31] * 5000))
        del message.agents[0].observation.box.low[1:], message.agents[0].observation.box.high[1:]
        message.agents.extend([message.agents[0]] * rng.choice((0, 3, 1000)))
        for i, agent in enumerate(message.agents):
            agent.agent_id = f"many_{i}"
    return spoil_message(rng, message)


def _decode_spaces(hostile: SpacesMessage) -> None:
    spaces = spaces_from_proto(hostile)
    check_spaces(spaces)
    assert spaces_from_proto(spaces_to_proto(spaces)) == spaces
    check_same_spaces("a", ENVIRONMENTS[0], spaces)


def _hostile_join(rng: Random) -> JoinRequest:
    request = JoinRequest(
        protocol_version=1, actor_id="a", incarnation=7, train_slots=4, eval_slots=1, hostname="h", software_version="1"
    )
    return spoil_message(rng, request)


def _decode_join(hostile: JoinRequest) -> None:
    session = Sessions(5.0).join(hostile)
    assert session.actor_id.isascii() and session.actor_id.isprintable()
    assert session.hostname.isprintable() and len(session.hostname) <= MAX_TEXT
    assert session.token and session.received_seq < 2**64


WIRE = (
    Target("rows of a fragment", _hostile_blob, _decode_blob, (FragmentError,)),
    Target("fragment", _hostile_fragment, _decode_fragment, (FragmentError,)),
    Target("parts of a fragment", _hostile_parts, _decode_parts, (FragmentError,)),
    Target("spaces of a Join", _hostile_spaces, _decode_spaces, (SpaceError, ConfigError)),
    Target("Join", _hostile_join, _decode_join, (RefusedError,)),
)
