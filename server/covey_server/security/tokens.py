"""Who has which role: bearer tokens from a file that is read again when it changes, or from the environment."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from covey.errors import ConfigError
from covey.wire.credentials import ROLES, check_token, read_secret

logger = logging.getLogger("covey.rpc")

VARIABLE = "COVEY_TOKENS"
LOOK_EVERY_S = 1.0

Stamp = tuple[int, int, int]
"""Inode, time of change and size of a file: another one means other content."""


class Tokens:
    """Roles by token; only digests are kept.

    Args:
        roles: Role of each token, by the token's SHA-256.
        path: The file they are from; None: they never change.
        clock: Monotonic seconds.
    """

    def __init__(
        self, roles: Mapping[bytes, str], path: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._roles = dict(roles)
        self._granted: dict[bytes, str] = {}
        self._path = path
        self._clock = clock
        self._stamp = None if path is None else stamp_of(path)
        self._looked_at = clock()
        self.version = 0
        """Moves when tokens may have gone: whoever was let in before asks again."""

    @staticmethod
    def load(path: str | None, environ: Mapping[str, str] = os.environ) -> Tokens | None:
        """Those of the file, else of `COVEY_TOKENS`, which holds what such a file does; None where neither is given.

        Raises:
            ConfigError: both are given, the file cannot be read or others may read it, or a line is no role and token.
        """
        text = environ.get(VARIABLE)
        if path is None:
            return None if not text else Tokens(digests(text, VARIABLE))
        if text:
            raise ConfigError(f"learner.tokens {path} and {VARIABLE}: both given, expected one of them")
        return Tokens(digests(read_secret(Path(path)).decode("utf-8", "replace"), path), Path(path))

    def role(self, token: str) -> str | None:
        """The role of a token; None for one that is not ours. Takes as long for one as for another."""
        self.refresh()
        presented = digest(token)
        found = None
        for known, role in (*self._roles.items(), *self._granted.items()):
            if hmac.compare_digest(known, presented):
                found = role
        return found

    def grant(self, role: str) -> str:
        """One more token, good as long as this process lives and written nowhere."""
        token = secrets.token_urlsafe(32)
        self._granted[digest(token)] = role
        return token

    def refresh(self) -> None:
        """Read the file again if it has changed; one that is broken changes nothing but the log."""
        now = self._clock()
        if self._path is None or now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._roles = digests(read_secret(self._path).decode("utf-8", "replace"), str(self._path))
        except ConfigError as exc:
            logger.warning("%s; the tokens of before stay good", exc)
            return
        self.version += 1
        logger.info("%s: read again, %d tokens", self._path, len(self._roles))


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def stamp_of(path: Path) -> Stamp | None:
    """What tells that a file is another one than before; None where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def parse_tokens(text: str, origin: str) -> dict[str, str]:
    """Role by token, of lines "role token"; "#" begins a comment.

    Raises:
        ConfigError: a line that is none, a token with two roles, or no token at all. Tokens are not repeated in it.
    """
    tokens: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in ROLES:
            raise ConfigError(f"{origin}: line {number} is no role and token, expected one of {', '.join(ROLES)} first")
        role, token = words[0], check_token(words[1], f"{origin}: line {number}")
        if tokens.setdefault(token, role) != role:
            raise ConfigError(f"{origin}: line {number} gives a token a second role; make another token")
    if not tokens:
        raise ConfigError(f"{origin}: holds no tokens, expected lines such as 'actor TOKEN'")
    return tokens


def digests(text: str, origin: str) -> dict[bytes, str]:
    """As `parse_tokens`, by digest."""
    return {digest(token): role for token, role in parse_tokens(text, origin).items()}
