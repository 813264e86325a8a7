"""Where a token may travel, and what a client makes of the files that it is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.processes import PATIENCE_S

from covey.cli import run
from covey.cli.certs import write_credentials
from covey.errors import ConfigError
from covey.wire.channel import connect
from covey.wire.credentials import Credentials, is_loopback

TOKEN = "a-token-0123456789"


@pytest.fixture
def heard() -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """A server without TLS, and the `authorization` of every call that came."""
    calls: list[tuple[str, ...]] = []

    def note(_: Any, context: grpc.ServicerContext) -> None:
        calls.append(tuple(str(v) for k, v in context.invocation_metadata() if k == "authorization"))

    def one(request: Any, context: grpc.ServicerContext) -> bytes:
        note(request, context)
        return b"answer"

    def many(request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        note(request, context)
        yield b"answer"

    handlers: dict[str, Any] = {
        "One": grpc.unary_unary_rpc_method_handler(one),
        "Many": grpc.unary_stream_rpc_method_handler(many),
        "Both": grpc.stream_stream_rpc_method_handler(many),
    }
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", calls
    server.stop(None).wait()


def test_a_token_goes_with_every_kind_of_call_on_this_machine_and_past_no_proxy(
    heard: tuple[str, list[tuple[str, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # where nobody listens: a call that goes there fails
    address, calls = heard
    with connect(address, Credentials(token=TOKEN)) as channel:
        many: Any = channel.unary_stream("/test.Service/Many")
        both: Any = channel.stream_stream("/test.Service/Both")
        one: Any = channel.unary_unary("/test.Service/One")
        assert one(b"", timeout=PATIENCE_S) == b"answer"
        assert [*many(b"", timeout=PATIENCE_S), *both(iter([b""]), timeout=PATIENCE_S)] == [b"answer"] * 2
    assert calls == [(f"Bearer {TOKEN}",)] * 3
    with connect(address) as channel:
        without: Any = channel.unary_unary("/test.Service/One")
        assert without(b"", timeout=PATIENCE_S) == b"answer"
    assert calls[3] == ()


@pytest.mark.parametrize("host", ["learner.test", "192.168.1.7", "0.0.0.0", "[2001:db8::1]", "127.0.0.1.test"])
def test_a_token_never_travels_over_a_network_in_plain_text(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="would travel there in plain text, expected TLS; give --ca FILE") as raised:
        connect(f"{host}:50051", Credentials(token=TOKEN))
    assert TOKEN not in str(raised.value)
    connect(f"{host}:50051").close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_what_this_machine_is(host: str) -> None:
    assert is_loopback(host)


def test_credentials_are_read_from_files_or_the_environment(tmp_path: Path) -> None:
    write_credentials(tmp_path, [], ["a1"])
    ca, certificate, key = (tmp_path / name for name in ("ca.crt", "a1.crt", "a1.key"))
    token = (tmp_path / "actor.token").read_text().strip()
    given = Credentials.load(ca, certificate, key, tmp_path / "actor.token", {})
    assert (given.ca, given.certificate, given.key) == tuple(p.read_bytes() for p in (ca, certificate, key))
    assert given.token == token and token not in repr(given) and "PRIVATE" not in repr(given)
    assert Credentials.load(environ={"COVEY_CA": str(ca), "COVEY_TOKEN": token}) == Credentials(given.ca, token=token)
    assert Credentials.load(environ={"COVEY_CA": "", "COVEY_TOKEN": ""}) == Credentials()
    other = Credentials.load(token_file=tmp_path / "viewer.token", environ={"COVEY_TOKEN": token})
    assert other.token == (tmp_path / "viewer.token").read_text().strip()


def test_files_that_will_not_do_are_named(tmp_path: Path) -> None:
    write_credentials(tmp_path, [], ["a1"])
    ca, certificate, key = (tmp_path / name for name in ("ca.crt", "a1.crt", "a1.key"))
    (tmp_path / "empty.token").touch(mode=0o600)
    (tmp_path / "large.token").touch(mode=0o600)
    (tmp_path / "large.token").write_text("x" * 100_000)
    cases: tuple[tuple[tuple[Path | None, ...], str], ...] = (
        ((tmp_path / "none.crt",), r"none.crt cannot be read \(No such file"),
        ((key,), "a1.key holds no certificate"),
        ((ca, certificate), "--cert and --key: one of them is given"),
        ((None, certificate, key), "needs TLS, which --ca FILE turns on"),
        ((ca, None, None, tmp_path / "empty.token"), "empty.token holds no token"),
        ((ca, None, None, tmp_path / "large.token"), "larger than 65536 bytes"),
    )
    for arguments, says in cases:
        with pytest.raises(ConfigError, match=says):
            given: Any = dict(zip(("ca", "certificate", "key", "token_file"), arguments, strict=False))
            Credentials.load(**given, environ={})
    os.chmod(tmp_path / "actor.token", 0o604)
    with pytest.raises(ConfigError, match=r"mode 0604 lets others use it, expected 0600; chmod 600"):
        Credentials.load(token_file=tmp_path / "actor.token", environ={})


@pytest.mark.parametrize(
    "command", [["status"], ["members"], ["watch"], ["pause"], ["drain", "a1"], ["stop"], ["checkpoint"], ["actor"]]
)
def test_every_command_that_asks_a_learner_refuses_to_show_a_token_in_plain_text(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVEY_TOKEN", TOKEN)
    assert run([*command, "--learner", "learner.test:50051"]) == 2
    said = capsys.readouterr().err
    assert "the token would travel there in plain text" in said and TOKEN not in said and said.count("\n") == 1
