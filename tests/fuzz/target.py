"""A decoder under attack: what is thrown at it, what it may answer, and what must hold of what it takes."""

from __future__ import annotations

import atexit
import functools
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from covey.errors import CoveyError

MAX_SENTENCE = 2000
MAX_GROWTH_BYTES = 256 << 20
"""By which one input may raise this process's highest memory: what decoders allow themselves is below."""

MAX_CPU_S = 5.0

INTERNALS = ("Traceback", 'File "', " object at 0x", "<class '", "site-packages", ".py:", ".py,", "\n")
"""What shows that a sentence was not written for a person."""


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        name: In reports.
        make: A hostile input, often a valid one that was spoilt; sometimes one that is valid.
        decode: Decodes it, and asserts that what comes out keeps the decoder's own contract.
        refusals: The documented errors.
    """

    name: str
    make: Callable[[Random], Any]
    decode: Callable[[Any], object]
    refusals: tuple[type[CoveyError], ...]


def attempt(target: Target, hostile: Any) -> str:
    """Decode; "taken", or the name of the documented error that refused it.

    Raises:
        Exception: anything else that the decoder raised.
        AssertionError: what it took breaks its contract, the sentence shows internals, or it took too much.
    """
    peak, began = peak_bytes(), time.thread_time()
    try:
        target.decode(hostile)
        outcome = "taken"
    except target.refusals as exc:
        check_sentence(str(exc))
        outcome = type(exc).__name__
    seconds, grown = time.thread_time() - began, peak_bytes() - peak
    assert seconds < MAX_CPU_S, f"{target.name}: took {seconds:.1f} s of CPU"
    assert grown < MAX_GROWTH_BYTES, f"{target.name}: took {grown >> 20} MiB"
    return outcome


def check_sentence(text: str) -> None:
    """An error is one sentence of bounded length for a person."""
    assert text, "an error without a word"
    assert len(text) <= MAX_SENTENCE, f"{len(text)} characters: {text[:200]!r}"
    for internal in INTERNALS:
        assert internal not in text, f"{internal!r} in {text[:500]!r}"


@functools.cache
def scratch() -> Path:
    """A directory for this process, in memory where there is one: a million files and their `fsync` take their time."""
    path = Path(tempfile.mkdtemp(prefix="covey-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
