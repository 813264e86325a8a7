"""Who a client is to a learner: the CA it trusts, a certificate, a token; and where a token may travel."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from covey.errors import ConfigError

ROLES = ("actor", "viewer", "admin")
"""`actor` collects, `viewer` asks, `admin` asks and steers."""

TOKEN_VARIABLE = "COVEY_TOKEN"
CA_VARIABLE = "COVEY_CA"

MAX_SECRET_BYTES = 1 << 16
MIN_TOKEN_CHARACTERS, MAX_TOKEN_CHARACTERS = 16, 512


@dataclass(frozen=True)
class Credentials:
    """What a client shows and what it expects; without a CA the connection is not encrypted."""

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
        """From files; `COVEY_CA` (a path) and `COVEY_TOKEN` (the token itself) stand in for those not given.

        Raises:
            ConfigError: a file cannot be read, is not what it must be, or others may read a secret.
        """
        if ca is None and environ.get(CA_VARIABLE):
            ca = Path(environ[CA_VARIABLE])
        if (certificate is None) != (key is None):
            raise ConfigError("--cert and --key: one of them is given, expected both or none")
        if certificate is not None and ca is None:
            raise ConfigError(f"--cert {certificate}: needs TLS, which --ca FILE turns on")
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
    """Whether what is sent to this host, or what listens on it, stays on this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def check_token(token: str, origin: str) -> str:
    """A token as it is.

    Raises:
        ConfigError: too short to be secret, or not what a header can hold.
    """
    printable = token.isascii() and token.isprintable() and " " not in token
    if not printable or not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS:
        raise ConfigError(
            f"{origin}: holds no token, expected {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} ASCII characters "
            "without blanks; `covey certs init` makes some"
        )
    return token


def read_secret(path: Path) -> bytes:
    """A key or a file of tokens, which nobody but its owner may read.

    Raises:
        ConfigError: it cannot be read, is too large to be one, or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({os.strerror(exc.errno or 0)}); give an existing file") from exc
    if mode & 0o077:
        raise ConfigError(f"{path}: mode {mode & 0o777:04o} lets others use it, expected 0600; chmod 600 {path}")
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_SECRET_BYTES} bytes, expected a key or tokens")
    return data


def read_certificates(path: Path) -> bytes:
    """Certificates in PEM.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({os.strerror(exc.errno or 0)}); give an existing file") from exc
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ConfigError(f"{path}: holds no certificate, expected PEM as `covey certs init` writes it")
    return data
