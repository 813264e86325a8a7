"""What `covey certs init` makes, and that it never takes anything away."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from covey.cli import run
from covey.cli.certs import write_credentials
from covey.errors import ConfigError
from covey.wire.credentials import ROLES


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir()}


def test_one_command_makes_all_that_two_machines_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "certs"
    assert (
        run(["certs", "init", "--out", str(out), "--host", "learner.test", "--host", "10.1.2.3", "--actor", "a1"]) == 0
    )
    names = {"ca.crt", "ca.key", "server.crt", "server.key", "a1.crt", "a1.key", "tokens"}
    assert set(contents(out)) == names | {f"{role}.token" for role in ROLES}
    assert {Path(line).name for line in capsys.readouterr().out.splitlines()} == set(contents(out))
    public = {p.name for p in out.iterdir() if stat.S_IMODE(p.stat().st_mode) != 0o600}
    assert public == {"ca.crt", "server.crt", "a1.crt"}
    lines = dict(line.split() for line in (out / "tokens").read_text().splitlines() if not line.startswith("#"))
    assert lines == {role: (out / f"{role}.token").read_text().strip() for role in ROLES}
    assert len(set(lines.values())) == 3 and min(map(len, lines.values())) >= 43


def test_certificates_are_for_one_purpose_and_of_one_authority(tmp_path: Path) -> None:
    write_credentials(tmp_path, ["learner.test", "10.1.2.3"], ["a1"])
    ca, server, actor = (certificate(tmp_path / f"{name}.crt") for name in ("ca", "server", "a1"))
    for signed, name, days in ((ca, "ca", 3650), (server, "server", 397), (actor, "a1", 397)):
        signed.verify_directly_issued_by(ca)
        key = load_pem_private_key((tmp_path / f"{name}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"
        assert key.public_key() == signed.public_key()
        left = signed.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=days - 1) < left <= datetime.timedelta(days=days)
        assert signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is (name == "ca")
        assert signed.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is (name == "ca")
    purposes = [set(c.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) for c in (server, actor)]
    assert purposes == [{ExtendedKeyUsageOID.SERVER_AUTH}, {ExtendedKeyUsageOID.CLIENT_AUTH}]
    named = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "learner.test", socket.gethostname()} <= set(named.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "::1", "10.1.2.3"} <= {str(a) for a in named.get_values_for_type(x509.IPAddress)}
    assert ipaddress.ip_address("10.1.2.3") in named.get_values_for_type(x509.IPAddress)
    assert [a.value for a in actor.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["a1"]


def test_an_actor_can_be_added_and_nothing_is_overwritten(tmp_path: Path) -> None:
    write_credentials(tmp_path, ["learner.test"], ["a1"])
    before = contents(tmp_path)
    made = write_credentials(tmp_path, [], ["a2"])
    assert {p.name for p in made} == {"a2.crt", "a2.key"}
    certificate(tmp_path / "a2.crt").verify_directly_issued_by(certificate(tmp_path / "ca.crt"))
    for hosts, actors, says in (
        ([], [], "holds all there is to make, and nothing is overwritten"),
        (["other.test"], [], "server.crt exists, and nothing is overwritten"),
        ([], ["a3", "a1"], "a1.crt exists, and nothing is overwritten"),
    ):
        with pytest.raises(ConfigError, match=says):
            write_credentials(tmp_path, hosts, actors)
    assert contents(tmp_path).items() >= before.items() and not (tmp_path / "a3.crt").exists()
    (tmp_path / "server.crt").unlink()
    (tmp_path / "server.key").unlink()
    assert {p.name for p in write_credentials(tmp_path, ["other.test"], [])} == {"server.crt", "server.key"}


@pytest.mark.parametrize("name", ["", "a b", "../a1", "ca", "server", "x" * 65, "é"])
def test_names_that_no_actor_can_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--actor"):
        write_credentials(tmp_path / "certs", [], [name])
    assert not (tmp_path / "certs").exists()


NO_HOSTS = ["a\n", "a\nb", "a b", "", ".", "a..b", "x" * 64 + ".org", "\x1b[2J", "é", "a/b", "http://a", "a:b:z"]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_hosts_that_are_none_are_refused_before_anything_is_made(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"--host .*: expected a name") as caught:
        write_credentials(tmp_path / "certs", [host], [])
    assert not (tmp_path / "certs").exists() and str(caught.value).isprintable()


@pytest.mark.parametrize("host", ["learner", "gpu_1.example.org", "*.example.org", "192.0.2.7", "2001:db8::1", "::1"])
def test_hosts_that_are_some_pass(tmp_path: Path, host: str) -> None:
    assert write_credentials(tmp_path / "certs", [host], [])


def test_an_authority_that_is_none_is_named(tmp_path: Path) -> None:
    write_credentials(tmp_path / "one", [], [])
    write_credentials(tmp_path / "two", [], [])
    (tmp_path / "one" / "ca.key").write_bytes((tmp_path / "two" / "ca.key").read_bytes())
    with pytest.raises(ConfigError, match=r"ca.key is not the key of .*ca.crt"):
        write_credentials(tmp_path / "one", [], ["a1"])
    (tmp_path / "two" / "ca.key").write_text("nonsense")
    with pytest.raises(ConfigError, match="cannot be used together"):
        write_credentials(tmp_path / "two", [], ["a1"])
    with pytest.raises(ConfigError, match="--host"):
        write_credentials(tmp_path / "three", ["é"], [])
