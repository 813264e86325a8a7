"""Who gets in over what, which sentence everybody else reads, and certificates that change under a running learner."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.support.processes import PATIENCE_S
from tests.support.secured_learner import METHODS, attempt, call, make_certificates, serving, tls, write_tokens

from covey.config import TLS, Learner
from covey.errors import ConfigError, UnreachableError
from covey.v1 import actor_service_pb2 as pb
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey.v1.population_service_pb2 import GetStatusRequest
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey.wire.channel import connect, translate
from covey.wire.credentials import Credentials
from covey_server.app import LearnerProcess
from covey_server.security.tls import ServerCertificate, check_exposure
from covey_server.security.tokens import Tokens

CHECK = next(m for m in METHODS if m.name == "Check")

HANGS_UP = "give --ca FILE if it serves TLS, --cert and --key if it asks for client certificates"
NO_TLS = "does not speak TLS; leave out --ca (COVEY_CA)"
UNKNOWN_CA = "the CA of --ca (COVEY_CA) does not vouch for its certificate (unable to get local issuer certificate)"
WRONG_PURPOSE = "does not vouch for its certificate (unsupported certificate purpose)"
IN = "in"

SEEN = {
    "plain": {"plain": IN, "tls": NO_TLS, "mtls": NO_TLS, "stranger": NO_TLS, "foreign certificate": NO_TLS},
    "tls": {"plain": HANGS_UP, "tls": IN, "mtls": IN, "stranger": UNKNOWN_CA, "foreign certificate": IN},
    "mtls": {"plain": HANGS_UP, "tls": HANGS_UP, "mtls": IN, "stranger": UNKNOWN_CA, "foreign certificate": HANGS_UP},
    "impostor": {"tls": WRONG_PURPOSE, "mtls": WRONG_PURPOSE},
}
"""What a client of a kind (inner) comes to at a learner of a kind (outer)."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("ours"), "a1", "a2")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("theirs"), "a1")


@pytest.fixture(scope="module")
def clients(ours: Path, theirs: Path) -> dict[str, Credentials]:
    load = Credentials.load
    return {
        "plain": Credentials(),
        "tls": load(ours / "ca.crt", environ={}),
        "mtls": load(ours / "ca.crt", ours / "a1.crt", ours / "a1.key", environ={}),
        "stranger": load(theirs / "ca.crt", theirs / "a1.crt", theirs / "a1.key", environ={}),
        "foreign certificate": load(ours / "ca.crt", theirs / "a1.crt", theirs / "a1.key", environ={}),
    }


@pytest.fixture(scope="module")
def learners(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LearnerProcess]]:
    """By kind; an impostor shows a client's certificate as if it were a learner's."""
    runs = tmp_path_factory.mktemp("runs")
    impostor = {"certificate": str(ours / "a1.crt"), "key": str(ours / "a1.key")}
    with (
        serving(runs / "plain") as plain,
        serving(runs / "tls", tls=tls(ours)) as encrypted,
        serving(runs / "mtls", tls=tls(ours, client_ca=True)) as mutual,
        serving(runs / "impostor", tls=impostor) as false,
    ):
        yield {"plain": plain, "tls": encrypted, "mtls": mutual, "impostor": false}


@pytest.mark.parametrize(("served", "client"), [(s, c) for s, row in SEEN.items() for c in row])
def test_who_gets_in_and_what_the_others_read(
    learners: dict[str, LearnerProcess], clients: dict[str, Credentials], served: str, client: str
) -> None:
    address, expected = learners[served].address, SEEN[served][client]
    with connect(address, clients[client]) as channel:
        stub = PopulationServiceStub(channel)
        if expected == IN:
            assert stub.GetStatus(GetStatusRequest(), timeout=PATIENCE_S).status.run_name
            return
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetStatus(GetStatusRequest(), timeout=PATIENCE_S)
    sentence = translate(refused.value, address)
    assert isinstance(sentence, UnreachableError) and str(sentence).startswith(f"learner {address}")
    assert expected in str(sentence) and "SSL_ERROR" not in str(sentence)


def test_a_certificate_is_good_for_its_names_alone(ours: Path, clients: dict[str, Credentials], tmp_path: Path) -> None:
    with serving(tmp_path, tls=tls(ours), bind="127.0.0.2:0") as process:
        with connect(process.address, clients["tls"]) as channel, pytest.raises(grpc.RpcError) as refused:
            PopulationServiceStub(channel).GetStatus(GetStatusRequest(), timeout=PATIENCE_S)
        assert "its certificate is for another name; make one with `covey certs init --host NAME`" in str(
            translate(refused.value, process.address)
        )


def test_an_actor_is_called_as_its_certificate_says(
    learners: dict[str, LearnerProcess], clients: dict[str, Credentials]
) -> None:
    with connect(learners["mtls"].address, clients["mtls"]) as channel:
        stub = ActorServiceStub(channel)
        for name, code in (
            ("a1", grpc.StatusCode.FAILED_PRECONDITION),
            ("a1-3", grpc.StatusCode.FAILED_PRECONDITION),
            ("a2", grpc.StatusCode.PERMISSION_DENIED),
            ("a11", grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Join(pb.JoinRequest(actor_id=name, protocol_version=99), timeout=PATIENCE_S)
            assert isinstance(refused.value, grpc.Call) and refused.value.code() == code
        assert "its certificate is 'a1''s" in (refused.value.details() or "")
    with connect(learners["tls"].address, clients["tls"]) as channel, pytest.raises(grpc.RpcError) as passed:
        ActorServiceStub(channel).Join(pb.JoinRequest(actor_id="anybody", protocol_version=99), timeout=PATIENCE_S)
    assert isinstance(passed.value, grpc.Call) and passed.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_a_certificate_is_replaced_while_the_learner_runs(tmp_path: Path) -> None:
    used = make_certificates(tmp_path / "used")
    first = Credentials.load(used / "ca.crt", environ={})
    other = make_certificates(tmp_path / "other")
    second = Credentials.load(other / "ca.crt", environ={})
    with serving(tmp_path / "learner", tls=tls(used)) as process, connect(process.address, first) as before:
        assert call(before, CHECK) == grpc.StatusCode.OK
        # Half of the pair: what is there now cannot be used, and the one before goes on.
        shutil.copy(other / "server.crt", used / "server.crt")
        with connect(process.address, first) as channel:
            assert call(channel, CHECK) == grpc.StatusCode.OK
        shutil.copy(other / "server.key", used / "server.key")
        with connect(process.address, second) as channel:
            assert call(channel, CHECK) == grpc.StatusCode.OK
        with connect(process.address, first) as channel:
            assert "CERTIFICATE_VERIFY_FAILED" in attempt(channel, CHECK)[1]
        assert call(before, CHECK) == grpc.StatusCode.OK, "a connection keeps what it began with"


def test_what_cannot_be_used_is_told_and_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = make_certificates(tmp_path / "certs")
    certificate = ServerCertificate(TLS(**tls(directory)))
    assert certificate.changed() is None
    for broken, says in (
        (b"no certificate", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense", "cannot be used"),
        ((directory / "ca.crt").read_bytes(), "is not the key of"),
    ):
        (directory / "server.crt").write_bytes(broken)
        with caplog.at_level(logging.WARNING):
            assert certificate.changed() is None and certificate.changed() is None
        assert says in caplog.messages[-1] and caplog.messages[-1].endswith("the certificate read before stays in use")
    assert len(caplog.messages) == 3, "one warning for each change"
    (directory / "server.crt").unlink()
    (directory / "server.key").unlink()
    assert certificate.changed() is None
    make_certificates(directory)
    assert certificate.changed() is not None and certificate.changed() is None


def test_a_key_whose_mode_was_put_right_is_taken(tmp_path: Path) -> None:
    used, other = make_certificates(tmp_path / "used"), make_certificates(tmp_path / "other")
    certificate = ServerCertificate(TLS(**tls(used)))
    shutil.copy(other / "server.crt", used / "server.crt")
    shutil.copy(other / "server.key", used / "server.key")
    os.chmod(used / "server.key", 0o644)
    assert certificate.changed() is None
    os.chmod(used / "server.key", 0o600)
    assert certificate.changed() is not None and certificate.changed() is None


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    directory = make_certificates(tmp_path / "certs")
    os.chmod(directory / "server.key", 0o644)
    with pytest.raises(ConfigError, match=r"server.key: mode 0644 lets others use it"):
        ServerCertificate(TLS(**tls(directory)))


@pytest.mark.parametrize("bind", ["0.0.0.0:1", "[::]:1", "192.168.1.7:1", "learner.test:1", "[::ffff:127.0.0.1]:1"])
def test_other_machines_are_served_with_tls_and_tokens_or_if_somebody_says_so(tmp_path: Path, bind: str) -> None:
    section = TLS(certificate="c", key="k")
    tokens = Tokens.load(str(write_tokens(tmp_path / "tokens")), {})
    for config, who, missing in (
        (Learner(bind=bind), None, "expected TLS and tokens"),
        (Learner(bind=bind), tokens, "expected TLS;"),
        (Learner(bind=bind, tls=section), None, "expected tokens;"),
    ):
        with pytest.raises(ConfigError, match=missing):
            check_exposure(config, who, insecure=False)
        check_exposure(config, who, insecure=True)
    check_exposure(Learner(bind=bind, tls=section), tokens, insecure=False)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.8.9.10:0", "[::1]:0", "localhost:0"])
def test_this_machine_is_served_without(bind: str) -> None:
    check_exposure(Learner(bind=bind), None, insecure=False)


def test_a_learner_does_not_start_where_it_would_be_open_to_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="other machines reach it"), serving(tmp_path, bind="0.0.0.0:0"):
        pass
    with serving(tmp_path, bind="0.0.0.0:0", insecure=True) as process:
        port = process.address.rpartition(":")[2]
        with connect(f"127.0.0.1:{port}") as channel:
            assert call(channel, CHECK) == grpc.StatusCode.OK
