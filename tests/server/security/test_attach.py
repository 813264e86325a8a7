"""The command that a learner prints can be pasted on another machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from covey.cli.certs import write_credentials
from covey.config import TLS, Learner
from covey_server.security.attach import attach_command


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learner:
    """The configuration of a learner with certificates and tokens in ./certs, for gpu.lan and 10.0.0.7."""
    monkeypatch.chdir(tmp_path)
    write_credentials(tmp_path / "certs", ["10.0.0.7", "gpu.lan"], [])
    certs = tmp_path / "certs"
    tls = TLS(certificate=str(certs / "server.crt"), key=str(certs / "server.key"))
    return Learner(tls=tls, tokens=str(certs / "tokens"))


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "[::]:50051"])
def test_a_name_of_the_certificate_stands_for_all_addresses(secured: Learner, address: str) -> None:
    assert attach_command(address, secured, asks_token=True) == (
        "covey actor --learner gpu.lan:50051 --ca certs/ca.crt --token-file certs/actor.token"
    )


def test_an_address_that_can_be_dialled_stays(secured: Learner) -> None:
    assert attach_command("10.0.0.7:1", secured, asks_token=True).startswith("covey actor --learner 10.0.0.7:1 --ca ")
    assert attach_command("127.0.0.1:7", Learner(), asks_token=False) == "covey actor --learner 127.0.0.1:7"


def test_files_that_are_elsewhere_are_left_to_the_reader(secured: Learner) -> None:
    Path("certs/actor.token").unlink()
    Path("certs/ca.crt").unlink()
    assert attach_command("gpu.lan:1", secured, asks_token=True) == (
        "covey actor --learner gpu.lan:1 --ca FILE --token-file FILE"
    )
    without = attach_command("0.0.0.0:1", Learner(), asks_token=False)
    assert without == f"covey actor --learner {socket.gethostname()}:1"
