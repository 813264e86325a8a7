"""Bearer tokens and their roles, from a file that is read again when it changes, or from an environment variable."""

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
"""Environment variable that holds the text of a token file."""

CHECK_INTERVAL_S = 1.0
"""Seconds between two looks at whether the token file has changed."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size (bytes), modification and change time (ns) of a file: if one differs, the file was replaced,
written, or made readable (which changes the last alone)."""


class Tokens:
    """The tokens that a learner accepts, each with its role; only their SHA-256 is kept in memory.

    Args:
        roles: Role of each token, by the token's SHA-256.
        path: File that the tokens were read from, to be read again when it changes; None: they never change.
        clock: Returns monotonic time in seconds.
        stamp: The file's stamp from before it was read; None: from now.

    Attributes:
        version: Number that changes when tokens may have been removed: whoever was admitted before is checked again.
    """

    def __init__(
        self,
        roles: Mapping[bytes, str],
        path: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        stamp: Stamp | None = None,
    ) -> None:
        self._roles = dict(roles)
        self._granted: dict[bytes, str] = {}
        self._path = path
        self._clock = clock
        self._stamp = stamp if stamp is not None or path is None else stamp_of(path)
        self._checked_at_s = clock()
        self.version = 0

    @staticmethod
    def load(path: str | None, environ: Mapping[str, str] = os.environ) -> Tokens | None:
        """Read tokens from a file or from the environment variable `COVEY_TOKENS`, which holds such a file's text.

        Args:
            path: The file (`learner.tokens` of the configuration); None: the variable, if it is set.
            environ: Environment variables.

        Returns:
            The tokens; None if neither the file nor the variable is given.

        Raises:
            ConfigError: both are given, the file cannot be read, other users may read it, or a line of it is not a role
                and a token.
        """
        text = environ.get(VARIABLE)
        if path is None:
            return None if not text else Tokens(digests(text, VARIABLE))
        if text:
            raise ConfigError(f"learner.tokens {path} and {VARIABLE}: both given, expected one of them")
        stamp = stamp_of(Path(path))  # before reading, or a change in between would never be noticed
        return Tokens(digests(read_secret(Path(path)).decode("utf-8", "replace"), path), Path(path), stamp=stamp)

    def role(self, token: str) -> str | None:
        """The role of a token; None if the token is unknown."""
        self.refresh()
        # Every known digest is compared in constant time, so that timing tells nothing about any token.
        presented = digest(token)
        found = None
        for known, role in (*self._roles.items(), *self._granted.items()):
            if hmac.compare_digest(known, presented):
                found = role
        return found

    def grant(self, role: str) -> str:
        """Create a token with this role that is valid while this process lives and is stored nowhere."""
        token = secrets.token_urlsafe(32)
        self._granted[digest(token)] = role
        return token

    def refresh(self) -> None:
        """Read the token file again if it has changed; if it is invalid, log a warning and keep the old tokens."""
        now = self._clock()
        if self._path is None or now - self._checked_at_s < CHECK_INTERVAL_S:
            return
        self._checked_at_s = now
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return
        # Kept even if the file turns out to be invalid, so that one change is warned about once.
        self._stamp = stamp
        try:
            self._roles = digests(read_secret(self._path).decode("utf-8", "replace"), str(self._path))
        except ConfigError as exc:
            logger.warning("%s; the tokens read before stay valid", exc)
            return
        self.version += 1
        logger.info("%s read again, %d tokens", self._path, len(self._roles))


def digest(token: str) -> bytes:
    """SHA-256 of a token, which is kept instead of the token."""
    return hashlib.sha256(token.encode()).digest()


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file, which differs once the file was changed or replaced; None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def parse_tokens(text: str, origin: str) -> dict[str, str]:
    """Parse a token file: one "role token" on each line, comments after "#".

    Args:
        text: Content of the file.
        origin: Name of the file or variable, for errors.

    Returns:
        Role by token.

    Raises:
        ConfigError: a line is not a role and a token, a token has two roles, or there is no token. Error texts never
            contain a token.
    """
    tokens: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in ROLES:
            raise ConfigError(
                f"{origin}: line {number} is not a role and a token, expected ROLE TOKEN with one of {', '.join(ROLES)}"
            )
        role, token = words[0], check_token(words[1], f"{origin}: line {number}")
        if tokens.setdefault(token, role) != role:
            raise ConfigError(f"{origin}: line {number} gives a token a second role; make another token")
    if not tokens:
        raise ConfigError(f"{origin} holds no tokens, expected lines such as 'actor TOKEN'")
    return tokens


def digests(text: str, origin: str) -> dict[bytes, str]:
    """Parse a token file as `parse_tokens` does, and return roles by the tokens' SHA-256."""
    return {digest(token): role for token, role in parse_tokens(text, origin).items()}
