"""`covey certs init` makes certificates and tokens by which a learner and its clients know each other.

ca.crt           to every machine: clients check the learner by it      ca.key      signs; never leaves this machine
server.crt, .key the learner's                                          tokens      the learner's: who has which role
NAME.crt, .key   a client's, where client certificates are asked for    ROLE.token  one client's token: actor, ...
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covey.cli.terminal import say
from covey.errors import ConfigError
from covey.run.files import cannot_write
from covey.wire.credentials import ROLES
from covey.wire.limits import ACTOR_ID

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_DAYS = 3650
LEAF_DAYS = 397
"""Days that certificates of learners and clients hold: longer than any run, and a lost key is not good for ever."""

TOKEN_BYTES = 32

_TAKEN = ("ca", "server")

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", re.ASCII)
"""A host's name, perhaps for all of a domain, or an IPv6 address; IPv4 addresses have the form of names."""


def register(app: typer.Typer) -> None:
    """Add `covey certs init` to the command line."""
    certs = typer.Typer(help="Make certificates and tokens for a learner that other machines reach.")
    certs.command("init")(init)
    certs.callback()(lambda: None)  # without a callback, typer would leave out the name of an only command
    app.add_typer(certs, name="certs")


def init(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory to write them to.")] = Path("certs"),
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME-or-IP", help="Name or address by which other machines reach the learner; repeatable."
        ),
    ] = None,
    actor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Make a client certificate of this name as well; repeatable."),
    ] = None,
) -> None:
    """Make a CA, a server certificate, client certificates and tokens; what is there already is kept and used.

    To replace the server certificate, remove server.crt and server.key first, as nothing is overwritten. A running
    learner takes the new one by itself.
    """
    for made in write_credentials(out, host or (), actor or ()):
        say(str(made))


def write_credentials(out: Path, hosts: list[str] | tuple[str, ...], actors: list[str] | tuple[str, ...]) -> list[Path]:
    """Make the certificates, keys and tokens that a directory lacks; returns the files made.

    Args:
        out: The directory, made if need be.
        hosts: Names and addresses for the server certificate, besides those of this machine.
        actors: Names for which to make client certificates.

    Raises:
        ConfigError: a name cannot be an actor's or a host's, something asked for is there already, or nothing is
            missing.
        StorageError: the directory cannot be written.
    """
    for name in actors:
        if not ACTOR_ID.fullmatch(name) or name in _TAKEN:
            raise ConfigError(
                f"--actor {name!r}: expected 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-', and neither "
                f"{' nor '.join(_TAKEN)}"
            )
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ConfigError(
                f"--host {host[:80]!r}: expected a name of A-Z, a-z, 0-9, '.', '_', '-' or an address, such as "
                "learner.example.org, 192.0.2.7 or 2001:db8::1"
            )
    for name in (*(["server"] if hosts else []), *actors):
        if (out / f"{name}.crt").exists() or (out / f"{name}.key").exists():
            raise ConfigError(
                f"{out / name}.crt exists, and nothing is overwritten; remove it and {name}.key to make another"
            )
    try:
        made = _make_missing(out, hosts, actors)
    except OSError as exc:
        raise cannot_write(out, exc) from exc
    if not made:
        raise ConfigError(
            f"{out} holds all there is to make, and nothing is overwritten; remove server.crt and server.key to make "
            "others, or name an --actor"
        )
    return made


def _make_missing(out: Path, hosts: list[str] | tuple[str, ...], actors: list[str] | tuple[str, ...]) -> list[Path]:
    """Make those certificates, keys and tokens that a directory lacks; raises OSError where it cannot write."""
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority.at(out)
    made = list(authority.made)
    if not (out / "server.crt").exists():
        names = list(dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts]))
        made += authority.issue(out, "server", names)
    for name in dict.fromkeys(actors):
        made += authority.issue(out, name, [])
    if not (out / "tokens").exists():
        tokens = {role: secrets.token_urlsafe(TOKEN_BYTES) for role in ROLES}
        lines = "".join(f"{role} {token}\n" for role, token in tokens.items())
        made.append(_write_new(out / "tokens", f"# role token: one a line, any number of each\n{lines}".encode()))
        made += [_write_new(out / f"{role}.token", f"{token}\n".encode()) for role, token in tokens.items()]
    return made


class Authority:
    """A certificate authority: its certificate and key, read from a directory or made there."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey, made: list[Path]) -> None:
        self.certificate = certificate
        self._key = key
        self.made = made

    @staticmethod
    def at(directory: Path) -> Authority:
        """Read the certificate authority that a directory holds; makes one if there is none.

        Raises:
            ConfigError: ca.crt and ca.key cannot be read, or do not belong together.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        certificate, secret = directory / "ca.crt", directory / "ca.key"
        if not certificate.exists() and not secret.exists():
            return Authority._made_in(directory)
        try:
            ca = x509.load_pem_x509_certificate(certificate.read_bytes())
            key = load_pem_private_key(secret.read_bytes(), None)
        except (OSError, ValueError, TypeError) as exc:
            raise ConfigError(
                f"{certificate} and {secret} cannot be used together ({exc}); remove both to make another CA"
            ) from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
            raise ConfigError(f"{secret} is not the key of {certificate}; remove both to make another CA")
        return Authority(ca, key, [])

    @staticmethod
    def _made_in(directory: Path) -> Authority:
        """Make a certificate authority and write it to a directory."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        # Random digits in the name, so that the CAs of two learners can be told apart.
        name = _name(f"covey CA {secrets.token_hex(4)}")
        certificate = (
            _unsigned(name, name, key, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        files = _write_pair(directory, "ca", certificate, key)
        return Authority(certificate, key, files)

    def issue(self, directory: Path, name: str, hosts: list[str]) -> list[Path]:
        """Make a server certificate for these hosts, or a client certificate if there are none; returns the files."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = ec.generate_private_key(ec.SECP256R1())
        # A certificate has one purpose: as clients trust the same CA, a client's would pass for a learner's otherwise.
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _unsigned(_name(name), self.certificate.subject, key, LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False
            )
        return _write_pair(directory, name, builder.sign(self._key, hashes.SHA256()), key)


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    """Prepare a certificate that is still to be signed, valid for this many days."""
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Valid an hour ago already, as the clocks of machines differ.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the certificate extension that says what its key is for: signing certificates, or authentication."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    """Return a certificate's subject with this common name."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(host: str) -> x509.GeneralName:
    """Convert a host, an IP address or a DNS name, to the form in which a server certificate lists it."""
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as exc:
        raise ConfigError(f"--host {host!r}: expected a name in ASCII, or an IP address") from exc


def _write_pair(directory: Path, name: str, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> list[Path]:
    """Write a private key and its certificate; returns both files."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return [
        _write_new(directory / f"{name}.key", secret),
        _write_new(directory / f"{name}.crt", certificate.public_bytes(Encoding.PEM), mode=0o644),
    ]


def _write_new(path: Path, data: bytes, *, mode: int = 0o600) -> Path:
    """Write a new file, which at no moment others may read; raises FileExistsError rather than overwrite one."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    return path
