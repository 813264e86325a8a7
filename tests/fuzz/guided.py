"""The three decoders that strangers reach first, fuzzed by coverage: `python -m tests.fuzz.guided NAME RUNS DIRECTORY`.

atheris starts from honest inputs and keeps what reaches further into the code; here the bytes are the input itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.message import DecodeError

GUIDED = ("fragment", "policy file", "network specification")


def main(name: str, runs: int, corpus: Path) -> None:
    """Fuzz one decoder; the process ends with 0, or with another code at the first crash."""
    atheris: Any = importlib.import_module("atheris")  # an extra, which has no types

    with atheris.instrument_imports(include=["covey", "covey_server"]):
        from tests.fuzz import text, wire
        from tests.fuzz.target import Target, attempt

        from covey.v1.fragment_pb2 import Fragment
        from covey.wire.policy_file import encode_policy

    targets: dict[str, Target] = {t.name: t for t in (*wire.WIRE, *text.TEXT)}
    spaces, order, fragment, _ = wire.honest(Random(0))
    # Honest inputs as bytes, and the way back.
    forms: dict[str, tuple[list[bytes], Callable[[bytes], object]]] = {
        "fragment": (
            [fragment.SerializeToString()],
            lambda data: wire.Sent(spaces, order, Fragment.FromString(data), False),
        ),
        "policy file": ([encode_policy(*text.policy_of(i)) for i in range(3)], lambda data: data),
        "network specification": (
            [json.dumps(text.network_of(agent).to_json()).encode() for agent in text.AGENTS[:3]],
            lambda data: data.decode(errors="replace"),
        ),
    }
    seeds, read = forms[name]

    def one(data: bytes) -> None:
        with contextlib.suppress(DecodeError):  # gRPC refuses those before a decoder of ours sees them
            attempt(targets[name], read(data))

    for i, seed in enumerate(seeds):
        (corpus / str(i)).write_bytes(seed)
    limits = [f"-runs={runs}", "-max_len=20000", "-rss_limit_mb=1500", "-timeout=20", "-seed=1"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
