"""TLS of the learner: its certificate, which may be replaced while it runs, and when it may serve without one."""

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
"""A certificate that expires within this many days is warned about."""


class ServerCertificate:
    """The learner's certificate, its key and the CA of client certificates, read again when their files change.

    Args:
        config: Section `learner.tls` of the configuration: paths of the files.

    Raises:
        ConfigError: a file cannot be read, other users may read the key, or the key is not the certificate's.
    """

    def __init__(self, config: TLS) -> None:
        self._config = config
        self._stamps = self._file_stamps()
        self._loaded = self._load()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for a gRPC server's port; each new connection uses the certificate that is current then."""
        return grpc.dynamic_ssl_server_credentials(
            self._loaded,
            self.changed,  # type: ignore[arg-type]  # grpc's stub lacks the result None, "unchanged"
            require_client_authentication=self._config.client_ca is not None,
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Read the files again if they have changed since the last call.

        gRPC calls it for each new connection, in threads of its own, where an exception would be lost; so files that
        cannot be used are logged, and the certificate in use stays.

        Returns:
            The new certificate; None if nothing has changed, or the files cannot be used.
        """
        stamps = self._file_stamps()
        if stamps == self._stamps:
            return None
        self._stamps = stamps
        try:
            self._loaded = self._load()
        except ConfigError as exc:
            # Perhaps only one of certificate and key has been replaced yet; the other will change the stamps again.
            logger.warning("%s; the certificate read before stays in use", exc)
            return None
        logger.info("%s read again; connections from now on get it", self._config.certificate)
        return self._loaded

    def _file_stamps(self) -> list[Stamp | None]:
        """Stamps of the certificate, key and CA files, which differ from earlier ones once a file has changed."""
        c = self._config
        return [stamp_of(Path(p)) for p in (c.certificate, c.key, c.client_ca) if p is not None]

    def _load(self) -> grpc.ServerCertificateConfiguration:
        """Read and check certificate, key and CA; warns if the certificate expires soon."""
        c = self._config
        chain, key = read_certificates(Path(c.certificate)), read_secret(Path(c.key))
        authority = None if c.client_ca is None else read_certificates(Path(c.client_ca))
        try:
            # The chain begins with the learner's own certificate; the key is its if both have one public key.
            certificates = x509.load_pem_x509_certificates(chain)
            pair = load_pem_private_key(key, None).public_key() == certificates[0].public_key()
            if authority is not None:
                x509.load_pem_x509_certificates(authority)
        except (ValueError, TypeError) as exc:
            raise ConfigError(
                f"learner.tls: {c.certificate} and {c.key} cannot be used ({exc}); create new ones by `covey "
                "certs init`"
            ) from exc
        if not pair:
            raise ConfigError(
                f"learner.tls: {c.key} is not the key of {c.certificate}; name a certificate and its own key"
            )
        left = certificates[0].not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        if left.days < WARN_DAYS:
            state = f"expires in {left.days} days" if left.days >= 0 else "has expired"
            logger.warning("%s: %s; replace the files of it and its key, no restart is needed", c.certificate, state)
        return grpc.ssl_server_certificate_configuration([(key, chain)], authority)


def check_exposure(config: Learner, tokens: Tokens | None, *, insecure: bool) -> None:
    """Refuse to serve other machines without TLS and tokens, unless the user explicitly asked for it.

    Args:
        config: Section `learner` of the configuration.
        tokens: Tokens that callers must show; None: there are none.
        insecure: Whether the user allowed other machines without TLS or tokens.

    Raises:
        ConfigError: `learner.bind` is an address that other machines reach, and TLS or tokens are missing.
    """
    host, _ = parse_address(config.bind)
    if is_loopback(host) or insecure:
        return
    missing = [name for name, value in (("TLS", config.tls), ("tokens", tokens)) if value is None]
    if missing:
        raise ConfigError(
            f"learner.bind {config.bind}: other machines reach it, expected {' and '.join(missing)}; run `covey certs "
            f"init --host NAME` and give --tls certs, or give --insecure to admit everybody"
        )
