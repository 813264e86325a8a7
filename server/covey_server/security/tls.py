"""The learner's certificate, replaced while it runs; and which addresses it serves without one."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from covey.config import TLS, Learner
from covey.errors import ConfigError
from covey.wire.channel import parse_address
from covey.wire.credentials import is_loopback, read_certificates, read_secret
from covey_server.security.tokens import Stamp, Tokens, stamp_of

logger = logging.getLogger("covey.rpc")

WARN_DAYS = 30


class ServerCertificate:
    """Certificate, key and the clients' CA, from files that are read again when they change.

    Raises:
        ConfigError: a file cannot be read, others may read the key, or the two are no pair.
    """

    def __init__(self, config: TLS) -> None:
        self._config = config
        self._stamps = self._look()
        self._loaded = self._load()

    def credentials(self) -> grpc.ServerCredentials:
        """For a server's port: every connection gets the pair that is there when it begins."""
        return grpc.dynamic_ssl_server_credentials(
            self._loaded,
            self.changed,  # type: ignore[arg-type]  # None, for "the same", is missing in the stub
            require_client_authentication=self._config.client_ca is not None,
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Another pair than at the last call, if files have changed and are sound; None: the same.

        gRPC calls it from threads of its own with every connection; what is raised there nobody sees.
        """
        stamps = self._look()
        if stamps == self._stamps:
            return None
        self._stamps = stamps
        try:
            self._loaded = self._load()
        except ConfigError as exc:
            # Perhaps half of two files that are being replaced: the other half changes the stamps again.
            logger.warning("%s; the certificate of before stays in use", exc)
            return None
        logger.info("%s: read again; connections from now on get it", self._config.certificate)
        return self._loaded

    def _look(self) -> list[Stamp | None]:
        c = self._config
        return [stamp_of(Path(p)) for p in (c.certificate, c.key, c.client_ca) if p is not None]

    def _load(self) -> grpc.ServerCertificateConfiguration:
        c = self._config
        chain, key = read_certificates(Path(c.certificate)), read_secret(Path(c.key))
        authority = None if c.client_ca is None else read_certificates(Path(c.client_ca))
        try:
            certificates = x509.load_pem_x509_certificates(chain)
            pair = load_pem_private_key(key, None).public_key() == certificates[0].public_key()
            if authority is not None:
                x509.load_pem_x509_certificates(authority)
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"learner.tls: {c.certificate} and {c.key} cannot be used ({exc}); make others") from exc
        if not pair:
            raise ConfigError(f"learner.tls: {c.key} is not the key of {c.certificate}; give the two that belong")
        left = certificates[0].not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        if left.days < WARN_DAYS:
            state = f"expires in {left.days} days" if left.days >= 0 else "has expired"
            logger.warning("%s: %s; replace it and its key, which needs no restart", c.certificate, state)
        return grpc.ssl_server_certificate_configuration([(key, chain)], authority)


def check_exposure(config: Learner, tokens: Tokens | None, *, insecure: bool) -> None:
    """Nobody but this machine reaches a learner that is not encrypted and guarded, unless somebody said so.

    Raises:
        ConfigError: an address that others reach, without TLS or without tokens.
    """
    host, _ = parse_address(config.bind)
    if is_loopback(host) or insecure:
        return
    missing = [name for name, value in (("TLS", config.tls), ("tokens", tokens)) if value is None]
    if missing:
        raise ConfigError(
            f"learner.bind {config.bind}: other machines reach it, expected {' and '.join(missing)}; run `covey certs "
            f"init --host NAME` and give --tls certs, or type --insecure to let everybody in"
        )
