"""The command that attaches an actor on another machine to a learner, to be pasted there."""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path

from cryptography import x509

from covey.config import Learner
from covey.wire.channel import parse_address
from covey.wire.credentials import is_loopback

ANY = ("0.0.0.0", "::", "[::]")
"""Hosts by which a server says that it listens at all of its machine's addresses; nobody can dial them."""


def attach_command(address: str, config: Learner, *, asks_token: bool) -> str:
    """Return a command line that attaches an actor.

    Args:
        address: HOST:PORT that the learner listens on.
        config: Section `learner` of the configuration.
        asks_token: Whether actors must show a token.
    """
    host, port = parse_address(address)
    certificate = None if config.tls is None else Path(config.tls.certificate)
    if host in ANY:
        names = [] if certificate is None else [name for name in _names(certificate) if not is_loopback(name)]
        # A name that somebody asked for is one by which the machine is reached; its own name is always there.
        host = next((name for name in names if name != socket.gethostname()), socket.gethostname())
    command = f"covey actor --learner {host}:{port}"
    if certificate is not None:
        command += f" --ca {_shown(certificate.with_name('ca.crt'))}"
        if config.tls is not None and config.tls.client_ca is not None:
            command += " --cert FILE --key FILE"
    if asks_token:
        tokens = Path(config.tokens) if config.tokens is not None else Path()
        command += f" --token-file {_shown(tokens.with_name('actor.token')) if tokens.name else 'FILE'}"
    return command


def _names(certificate: Path) -> list[str]:
    """The hosts that a certificate is for, names before addresses; none if it says none."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
        alternatives = found.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return []
    names = [name for name in alternatives.get_values_for_type(x509.DNSName) if not name.startswith("*")]
    addresses = [f"[{ip}]" if ip.version == 6 else str(ip) for ip in alternatives.get_values_for_type(x509.IPAddress)]
    return [*names, *addresses]


def _shown(path: Path) -> str:
    """A file that is there, by the shorter of its paths; else FILE."""
    return shlex.quote(min(os.path.relpath(path), str(path), key=len)) if path.exists() else "FILE"
