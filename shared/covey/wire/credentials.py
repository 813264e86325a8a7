"""A client's credentials: the CA that it trusts, its certificate and its token; read from files."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from covey.errors import ConfigError

ROLES = ("actor", "viewer", "admin")
"""Roles of tokens: `actor` collects, `viewer` asks for status, `admin` also steers the learner."""

TOKEN_VARIABLE = "COVEY_TOKEN"
CA_VARIABLE = "COVEY_CA"

MAX_SECRET_BYTES = 1 << 16
MIN_TOKEN_CHARACTERS, MAX_TOKEN_CHARACTERS = 16, 512


@dataclass(frozen=True)
class Credentials:
    """By what a client identifies itself to a learner, and the CA by which it checks the learner.

    Without a CA there is no TLS.

    Attributes:
        ca: PEM certificates that the learner's certificate must come from.
        certificate: PEM certificate of the client, where the learner asks for one.
        key: PEM private key of the certificate.
        token: Says who the client is and what it may do.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @staticmethod
    def load(
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        token_file: Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Credentials:
        """Read credentials from files.

        Args:
            ca: File of the CA; if None, the one that `COVEY_CA` names.
            certificate: File of the client's certificate.
            key: File of its private key.
            token_file: File of the token; if None, the token is that of `COVEY_TOKEN`.
            environ: Environment variables.

        Raises:
            ConfigError: a file cannot be read, is not what it must be, or others may read a secret.
        """
        if ca is None and environ.get(CA_VARIABLE):
            ca = Path(environ[CA_VARIABLE])
        if (certificate is None) != (key is None):
            raise ConfigError("--cert and --key: one of them is given, expected both or none")
        if certificate is not None and ca is None:
            raise ConfigError(f"--cert {certificate} needs TLS, which --ca FILE turns on")
        token = environ.get(TOKEN_VARIABLE) or None
        if token_file is not None:
            token = read_secret(token_file).decode("utf-8", "replace")
        return Credentials(
            None if ca is None else read_certificates(ca),
            None if certificate is None else read_certificates(certificate),
            None if key is None else read_secret(key),
            None if token is None else check_token(token.strip(), str(token_file or TOKEN_VARIABLE)),
        )


def is_loopback(host: str) -> bool:
    """Whether this host is the machine itself, so that nothing sent to it crosses a network."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def check_token(token: str, origin: str) -> str:
    """Check that a text can be an authorisation token; returns it. `origin` says in errors where it came from.

    Raises:
        ConfigError: it is too short to be secret, or no text that a header can hold.
    """
    printable = token.isascii() and token.isprintable() and " " not in token
    if not printable or not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS:
        raise ConfigError(
            f"{origin} holds no token, expected {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} ASCII characters "
            "without blanks; `covey certs init` makes some"
        )
    return token


def read_secret(path: Path) -> bytes:
    """Read a file that only its owner may read: a private key, or tokens.

    Raises:
        ConfigError: it cannot be read, is too large to be one, or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read ({os.strerror(exc.errno or 0)}); give an existing file") from exc
    if mode & 0o077:
        raise ConfigError(f"{path}: mode {mode & 0o777:04o} lets others use it, expected 0600; chmod 600 {path}")
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_SECRET_BYTES} bytes, expected a key or tokens")
    return data


def read_certificates(path: Path) -> bytes:
    """Read a file of PEM certificates.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read ({os.strerror(exc.errno or 0)}); give an existing file") from exc
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ConfigError(f"{path} holds no certificate, expected PEM as `covey certs init` writes it")
    return data
