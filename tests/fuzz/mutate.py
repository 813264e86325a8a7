"""How something valid becomes hostile: bytes, JSON and protobuf messages, spoilt so that most of their structure stays.

All chance comes from one `random.Random`: from Hypothesis, which shrinks what fails, or from a seed that repeats it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)

INTEGERS = (
    *(0, 1, 2, 3, 7, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536, 2**20, 2**24, 2**26),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 10**300),
    *(-1, -2, -128, -(2**31), -(2**63), -(10**30)),
)
FLOATS = (
    0.0,
    -0.0,
    0.5,
    -1.5,
    1e-45,
    5e-324,
    65520.0,
    3.4e38,
    3.5e38,
    1.7e308,
    -1.7e308,
    *map(float, ("nan", "inf", "-inf")),
)
TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\n",
        "\x1b[31m",
        "a" * 300,
        "ä",
        "\u202e",
        "🦆",
        "../../etc/passwd",
        "/dev/zero",
        "[/red]",
        "{0}",
    ),
    *("%s", "__class__", "nan", "inf", "-1", "1e999", "null", "float32", "object", "O", "U9", "f4,f4", "(2,)f4", ">f8"),
    *("M8[s]", "float128", "complex64", "void", "bool", "box", "discrete", "multi_binary", "ReLU", "mlp", "random"),
    *("a_0", "a_0_0", "a", "_", "_0", "a/observation"),
)
HUGE = (
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 3000 + "1" + "}" * 3000,
    "1e999",
    "-1e999",
    "NaN",
    '"\\ud800"',
    "1e-9",
)
"""Texts for a place where JSON has a value."""


def spoil_bytes(rng: Random, data: bytes, most: int = 4) -> bytes:
    """Flip, overwrite, insert, cut out, repeat, truncate or extend; up to `most` times."""
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(out) + 1)
        length = min(rng.choice((1, 1, 2, 4, 8, 16, 64)), len(out) - at)
        match rng.randrange(8):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                out[at : at + length] = rng.randbytes(length)
            case 2:
                out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = out[at : at + length] * rng.choice((1, 2, 50))
            case 5:
                del out[at:]
            case 6:
                out += rng.choice((b"\0", b"\xff" * 8, rng.randbytes(9), bytes(out)))
            case _:
                number = rng.choice(INTEGERS) & (2**64 - 1)
                packed = struct.pack(rng.choice("<>") + "Q", number)[: rng.choice((1, 2, 4, 8))]
                out[at : at + len(packed)] = packed
        if len(out) > len(data) + 100_000:
            del out[len(data) + 100_000 :]
    return bytes(out)


def any_value(rng: Random) -> Any:
    """A JSON value of any kind."""
    return rng.choice(
        (
            lambda: rng.choice(INTEGERS),
            lambda: rng.choice(FLOATS),
            lambda: rng.choice(TEXTS),
            lambda: rng.choice((None, True, False)),
            lambda: [],
            lambda: {},
            lambda: [rng.choice(INTEGERS) for _ in range(rng.choice((1, 2, 9, 40)))],
            lambda: [rng.choice(TEXTS), [], {}],
            lambda: {rng.choice(TEXTS): rng.choice(INTEGERS)},
        )
    )()


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) within a JSON value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < 1000:
        at = waiting.pop()
        keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        for key in keys:
            found.append((at, key))
            waiting.append(at[key])
    return found


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def spoil_json(rng: Random, value: Any) -> Any:
    """A copy with a few values, keys or lengths changed; lists and dictionaries all through."""
    spoilt: list[Any] = [_copied(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, key = rng.choice(places(spoilt))
        match rng.randrange(8):
            case 0:
                del at[key]
                spoilt = spoilt or [any_value(rng)]
            case 1 if isinstance(at, dict):
                at[rng.choice(TEXTS)] = at[key] if rng.random() < 0.5 else any_value(rng)
            case 1 | 2 if isinstance(at, list):
                at.extend([at[key]] * rng.choice((1, 2, 40)))
            case 3:
                at[key] = [at[key]]
            case 4:
                at[key] = str(at[key])[:100]
            case 5:
                other, there = rng.choice(places(spoilt))
                at[key] = _copied(other[there])
            case _:
                at[key] = any_value(rng)
    return spoilt[0]


def spoil_text(rng: Random, text: str) -> str:
    """JSON text, spoilt as text: what no object in memory could be, such as doubled keys and endless numbers."""
    for _ in range(rng.choice((1, 1, 2))):
        match rng.randrange(5):
            case 0:
                return spoil_bytes(rng, text.encode(errors="surrogatepass")).decode(errors="replace")
            case 1:
                at = rng.randrange(len(text) + 1)
                text = text[:at] + rng.choice((*TEXTS, *HUGE)) + text[at:]
            case 2 if '"' in text:
                entries = text.split(",")
                text = ",".join([*entries, rng.choice(entries)])
            case _ if ":" in text:
                # The value behind some colon, up to what ends it.
                pieces: list[str] = list(text.split(":"))
                i = rng.randrange(1, len(pieces))
                end = min((pieces[i].find(c) for c in ",}]" if c in pieces[i]), default=len(pieces[i]))
                pieces[i] = rng.choice(HUGE) + pieces[i][end:]
                text = ":".join(pieces)
    return text


def hostile_json(rng: Random, value: Any) -> str:
    """Text of a spoilt JSON value; in three of ten cases the text is spoilt too."""
    text = json.dumps(spoil_json(rng, value) if rng.random() < 0.9 else value, separators=(",", ":"))
    return spoil_text(rng, text) if rng.random() < 0.3 else text


def spoil_message(rng: Random, message: M) -> M:
    """A copy with a few fields set to what nobody expects; in a tenth of the cases its bytes are spoilt too."""
    spoilt = type(message)()
    spoilt.CopyFrom(message)
    for _ in range(rng.choice((1, 1, 2, 4))):
        _spoil_field(rng, spoilt)
    if rng.random() < 0.1:
        try:
            return type(message).FromString(spoil_bytes(rng, spoilt.SerializeToString()))
        except DecodeError:
            return spoilt
    return spoilt


def _spoil_field(rng: Random, message: Message) -> None:
    field: Any = rng.choice(message.DESCRIPTOR.fields)
    if field.is_repeated:
        _spoil_repeated(rng, getattr(message, field.name), field)
    elif field.message_type is not None:
        if rng.random() < 0.15:
            message.ClearField(field.name)
        else:
            child = getattr(message, field.name)
            child.SetInParent()
            _spoil_field(rng, child) if field.message_type.fields else None
    else:
        setattr(message, field.name, _scalar(rng, field))


def _spoil_repeated(rng: Random, values: Any, field: FieldDescriptor) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    match rng.randrange(4):
        case 0 if values:
            del values[rng.randrange(len(values))]
        case 1 if values:
            copies = [values[rng.randrange(len(values))]] * rng.choice((1, 2, 200))
            values.extend(copies)
        case _ if field.message_type is not None:
            child = rng.choice(values) if values and rng.random() < 0.8 else values.add()
            if field.message_type.fields:
                _spoil_field(rng, child)
        case _:
            if values and rng.random() < 0.6:
                values[rng.randrange(len(values))] = _scalar(rng, field)
            else:
                values.extend([_scalar(rng, field)] * rng.choice((1, 3, 5000)))


_BITS = {"INT32": 32, "SINT32": 32, "SFIXED32": 32, "INT64": 64, "SINT64": 64, "SFIXED64": 64}
_UNSIGNED = {"UINT32": 32, "FIXED32": 32, "UINT64": 64, "FIXED64": 64}
_KINDS = {
    getattr(FieldDescriptor, f"TYPE_{n}"): n
    for n in (*_BITS, *_UNSIGNED, "FLOAT", "DOUBLE", "BOOL", "STRING", "BYTES", "ENUM")
}


def _scalar(rng: Random, field: FieldDescriptor) -> Any:
    kind = _KINDS[field.type]
    if kind in _BITS:
        number = rng.choice(INTEGERS) & ((1 << _BITS[kind]) - 1)
        return number - (1 << _BITS[kind]) if number >> (_BITS[kind] - 1) else number
    if kind in _UNSIGNED:
        return rng.choice(INTEGERS) & ((1 << _UNSIGNED[kind]) - 1)
    makers: dict[str, Callable[[], Any]] = {
        "FLOAT": lambda: rng.choice([f for f in FLOATS if not 3.41e38 < abs(f) < float("inf")]),
        "DOUBLE": lambda: rng.choice(FLOATS),
        "BOOL": lambda: rng.random() < 0.5,
        "STRING": lambda: rng.choice(TEXTS),
        "BYTES": lambda: rng.randbytes(rng.choice((0, 1, 16, 31, 32, 33, 1000))),
        "ENUM": lambda: rng.choice((0, 1, 2, 3, 7, -1, 2**31 - 1)),
    }
    return makers[kind]()
