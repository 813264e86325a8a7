"""Writes to terminals and pipes that may be closed, full or gone, without ever stopping the program.

A run must not end, or stand still, because whoever reads its log has gone (`2>&1 | head -1`), has stopped reading (a
full pipe), or was never there (`2>&-`). And what a peer or a file said moves no cursor, sets no title and looks like no
line of covey's: whatever covey prints passes `printable`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from typing import Any, NoReturn, TextIO

MOST_BYTES = 1 << 20
"""What waits to be written at most; further text is dropped until a reader catches up."""

AT_EXIT_S = 1.0
"""How long the end of a process waits for what is not written yet."""


def printable(text: str, keep: str = "") -> str:
    r"""The text on one line that a terminal shows and does not obey: control characters become escapes such as `\x1b`.

    Args:
        text: Anything, perhaps from a peer or from a file of somebody else's.
        keep: Control characters that stay, such as the newlines of a text that has several lines.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def say(line: str, *, error: bool = False) -> None:
    """Print one line to standard output, or to standard error."""
    _print(printable(line), sys.stderr if error else sys.stdout)


def say_json(value: Any, indent: int | None = None) -> None:
    """Print a value as JSON in ASCII, in which control characters are escapes."""
    _print(json.dumps(value, indent=indent).replace("\x7f", "\\u007f"), sys.stdout)


def _print(line: str, stream: TextIO) -> None:
    # In one piece, which `print` writes as two where Python is told not to buffer: both streams may be one file.
    stream.write(f"{line}\n")
    stream.flush()


class PrintableFormatter(logging.Formatter):
    """Formats log messages, which may hold texts of peers, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; the lines of a traceback stay lines."""
        return printable(super().format(record), keep="\n")


class PatientStream(io.TextIOBase):
    """A text stream whose writer never waits and never gets an error: a thread of its own writes.

    Args:
        fd: The file descriptor that is written to.
        encoding: Of the text; what it cannot say is escaped.
    """

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._fd = fd
        self._encoding = encoding
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._gone = False  # nobody will ever read
        self._thread: threading.Thread | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the text that is written to the stream."""
        return self._encoding

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return os.isatty(self._fd)

    def fileno(self) -> int:
        """Return the file descriptor that is written to."""
        return self._fd

    def writable(self) -> bool:
        """Whether the stream can be written to: always."""
        return True

    def write(self, text: str) -> int:
        """Queue text for writing; text is dropped if too much waits already, or nobody can read it."""
        data = text.encode(self._encoding, errors="backslashreplace")
        with self._changed:
            if not self._gone and self._bytes + len(data) <= MOST_BYTES:
                self._waiting.append(data)
                self._bytes += len(data)
                self._changed.notify_all()
                if self._thread is None:
                    self._thread = threading.Thread(target=self._write_waiting, name="terminal", daemon=True)
                    self._thread.start()
        return len(text)

    def flush(self) -> None:
        """Do nothing: a thread writes queued text as soon as it can."""

    def drain(self, timeout_s: float) -> None:
        """Wait until all queued text is written, at most `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._bytes and not self._gone and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def _write_waiting(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                data = self._waiting.popleft()
            size = len(data)
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:
                with self._changed:
                    self._gone = True
                    self._waiting.clear()
                    self._bytes = 0
                    self._changed.notify_all()
                return
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()


def protect_standard_streams() -> None:
    """Make standard error never block, and put /dev/null where a standard stream is closed.

    Without the latter the next file that is opened, a journal perhaps, would get the number of standard error.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows only ASCII ends no command
    if isinstance(sys.stderr, PatientStream):
        return
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    try:
        fd = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or replaced by something that is no file
        if sys.stderr is not None:
            return
        fd = 2
    stream = PatientStream(fd, encoding)
    sys.stderr = stream
    atexit.register(stream.drain, AT_EXIT_S)


def exit_now(exit_code: int) -> NoReturn:
    """End the process without waiting for its threads, once what was written to standard error is out."""
    if isinstance(sys.stderr, PatientStream):
        sys.stderr.drain(AT_EXIT_S)  # os._exit calls nothing that `atexit` knows
    os._exit(exit_code)


def print_result(line: str) -> None:
    """Print the last line of a command; it does not matter whether anybody can read it."""
    if isinstance(sys.stderr, PatientStream):
        sys.stderr.drain(AT_EXIT_S)  # what was said before it is read before it
    with contextlib.suppress(OSError, ValueError):
        _print(line, sys.stdout)
        return
    discard_output()


def discard_output() -> None:
    """Redirect standard output to /dev/null, as its reader has gone, so that Python does not complain at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
