"""Every role at every method of a real server; tokens that come and go."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.support.processes import PATIENCE_S, until
from tests.support.secured_learner import METHODS, SERVICES, TOKENS, attempt, call, path_of, serving, write_tokens

from covey.errors import ConfigError
from covey.v1 import population_service_pb2 as pb
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey.wire.channel import connect
from covey.wire.credentials import Credentials
from covey_server.app import LearnerProcess
from covey_server.security import tokens as authorization_tokens
from covey_server.security.authorization import RULES, roles_of
from covey_server.security.rate_limit import BURST, CALLS_PER_S
from covey_server.security.tokens import CHECK_INTERVAL_S, Tokens

REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
GET_STATUS = next(m for m in METHODS if m.name == "GetStatus")


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens") / "tokens")


@pytest.fixture(scope="module")
def process(tokens_file: Path) -> Iterator[LearnerProcess]:
    with serving(tokens_file.parent / "learner", tokens=str(tokens_file)) as process:
        yield process


@pytest.fixture(scope="module")
def channels(process: LearnerProcess) -> Iterator[dict[str, grpc.Channel]]:
    """By role; "nobody" has no token, "stranger" another's."""
    given = {"nobody": Credentials(), "stranger": Credentials(token="none-of-yours-0123456789")}
    given |= {role: Credentials(token=token) for role, token in TOKENS.items()}
    channels = {who: connect(process.address, credentials) for who, credentials in given.items()}
    yield channels
    for channel in channels.values():
        channel.close()


def test_there_is_a_rule_for_every_method_that_is_served(channels: dict[str, grpc.Channel]) -> None:
    database = ProtoReflectionDescriptorDatabase(channels["viewer"])
    assert set(database.get_services()) == set(RULES) == {s.full_name for s in SERVICES}
    assert {s.full_name: {m.name for m in s.methods} for s in SERVICES} == {s: set(r) for s, r in RULES.items()}


def test_who_may_do_what_is_what_a_person_would_expect() -> None:
    may = {who: {m.name for m in METHODS if who in (roles_of(path_of(m)) or ())} for who in TOKENS}
    reflection = "ServerReflectionInfo"
    assert may["actor"] == {"Describe", "Join", "Work", "FetchPolicy", reflection}
    assert not {"Pause", "Resume", "Checkpoint", "DrainActor", "Shutdown"} & may["viewer"]
    assert may["admin"] - may["viewer"] == {"Pause", "Resume", "Checkpoint", "DrainActor", "Shutdown"}
    assert may["viewer"] & may["actor"] == {reflection}
    assert [m.name for m in METHODS if roles_of(path_of(m)) is None] == ["Check"]
    assert roles_of("/covey.v1.PopulationService/AddedTomorrow") == set(), "what has no rule is refused to everybody"


@pytest.mark.parametrize("method", METHODS, ids=path_of)
@pytest.mark.parametrize("who", ["nobody", "stranger", "actor", "viewer", "admin"])
def test_every_role_at_every_method(channels: dict[str, grpc.Channel], who: str, method: MethodDescriptor) -> None:
    allowed = roles_of(path_of(method))
    code, sentence = attempt(channels[who], method)
    if allowed is None or who in allowed:
        assert code not in REFUSED, sentence
    elif who in TOKENS:
        assert code == grpc.StatusCode.PERMISSION_DENIED and f"role {who} may not call {method.name}" in sentence
    else:
        assert code == grpc.StatusCode.UNAUTHENTICATED and "token" in sentence
    assert not any(token in sentence for token in TOKENS.values()) and "/" not in sentence


def test_refusals_are_counted(channels: dict[str, grpc.Channel]) -> None:
    stub = PopulationServiceStub(channels["viewer"])
    before = stub.GetStatus(pb.GetStatusRequest(), timeout=PATIENCE_S).status.counters
    call(channels["nobody"], GET_STATUS)
    call(channels["actor"], GET_STATUS)
    after = stub.GetStatus(pb.GetStatusRequest(), timeout=PATIENCE_S).status.counters
    assert after["unauthenticated"] == before["unauthenticated"] + 1
    assert after["forbidden"] == before["forbidden"] + 1


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", TOKENS["viewer"])],
        [("authorization", f"Basic {TOKENS['viewer']}")],
        [("authorization", f"Bearer {TOKENS['viewer'][:-1]}")],
        [("authorization", f"Bearer {TOKENS['viewer']}"), ("authorization", f"Bearer {TOKENS['admin']}")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer " + "a" * 4096)],
    ],
)
def test_a_token_that_is_not_shown_as_it_should_be_is_none(
    channels: dict[str, grpc.Channel], metadata: list[tuple[str, str]]
) -> None:
    assert call(channels["nobody"], GET_STATUS, metadata=metadata) == grpc.StatusCode.UNAUTHENTICATED


def test_a_request_is_not_even_parsed_for_those_who_may_not_make_it(channels: dict[str, grpc.Channel]) -> None:
    junk = b"\xff" * 100
    assert call(channels["nobody"], GET_STATUS, junk) == grpc.StatusCode.UNAUTHENTICATED
    code, sentence = attempt(channels["viewer"], GET_STATUS, junk)
    assert code == grpc.StatusCode.UNAVAILABLE and "not of this method's type" in sentence


def test_tokens_that_change_hold_from_then_on_and_for_open_streams_too(tmp_path: Path) -> None:
    file = write_tokens(tmp_path / "tokens")
    with serving(tmp_path / "learner", tokens=str(file)) as process:
        before = connect(process.address, Credentials(token=TOKENS["viewer"]))
        stream = PopulationServiceStub(before).WatchStatus(pb.WatchStatusRequest(interval_s=0.1), timeout=PATIENCE_S)
        next(stream)
        others = {"viewer": "another-token-0123456789", "admin": TOKENS["admin"]}
        write_tokens(file, others)
        after = connect(process.address, Credentials(token=others["viewer"]))
        until(lambda: call(after, GET_STATUS) == grpc.StatusCode.OK, what="the file is read again")
        assert call(before, GET_STATUS) == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as ended:
            for _ in stream:
                pass
        assert isinstance(ended.value, grpc.Call) and ended.value.code() == grpc.StatusCode.UNAUTHENTICATED
        before.close()
        after.close()


def test_a_file_that_breaks_keeps_the_tokens_of_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    file = write_tokens(tmp_path / "tokens")
    loaded = Tokens.load(str(file), {})
    assert loaded is not None
    tokens = Tokens(loaded._roles, file, lambda: now[0])
    assert tokens.role(TOKENS["admin"]) == "admin" and tokens.role("something-else-0123456789") is None
    for broken in ("", "admin\n", "root some-token-0123456789\n", "admin short\n"):
        file.write_text(broken)
        now[0] += CHECK_INTERVAL_S
        with caplog.at_level(logging.WARNING):
            assert tokens.role(TOKENS["admin"]) == "admin"
        assert "the tokens read before stay valid" in caplog.messages[-1]
        assert not any(token in caplog.text for token in TOKENS.values())
    assert len(caplog.messages) == 4, "one warning for each change, not for each call"
    assert tokens.version == 0
    write_tokens(file, {"viewer": TOKENS["admin"]})
    assert tokens.role(TOKENS["admin"]) == "admin", "the file is looked at once a second at most"
    now[0] += CHECK_INTERVAL_S
    assert tokens.role(TOKENS["admin"]) == "viewer" and tokens.version == 1


def test_a_granted_token_is_good_as_long_as_the_process_lives(tmp_path: Path) -> None:
    tokens = Tokens.load(None, {"COVEY_TOKENS": f"viewer {TOKENS['viewer']}\n"})
    assert tokens is not None
    granted = tokens.grant("actor")
    assert tokens.role(granted) == "actor" and tokens.role(TOKENS["viewer"]) == "viewer"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no tokens"),
        ("# only a comment\n", "holds no tokens"),
        ("actor\n", "line 1 is not a role and a token"),
        ("\nboss a-token-0123456789\n", "line 2 is not a role and a token"),
        ("actor tiny\n", "line 1 holds no token"),
        ("actor a-token-0123456789\nadmin a-token-0123456789\n", "line 2 gives a token a second role"),
    ],
)
def test_token_files_that_will_not_do(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tokens"
    file.touch(mode=0o600)
    file.write_text(text)
    with pytest.raises(ConfigError, match=says) as raised:
        Tokens.load(str(file), {})
    assert "a-token-0123456789" not in str(raised.value) and "tiny" not in str(raised.value)


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = write_tokens(tmp_path / "tokens")
    os.chmod(file, 0o640)
    with pytest.raises(ConfigError, match=r"mode 0640 lets others use it, expected 0600; chmod 600"):
        Tokens.load(str(file), {})
    with pytest.raises(ConfigError, match="both given, expected one of them"):
        Tokens.load(str(file), {"COVEY_TOKENS": f"viewer {TOKENS['viewer']}\n"})
    assert Tokens.load(None, {}) is None


def rewrite(file: Path) -> None:
    """Another text of the same size, in the same inode, with the modification time set back."""
    before = file.stat()
    file.write_text(file.read_text().replace(TOKENS["viewer"], "v" * len(TOKENS["viewer"])))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path) -> None:
    """Another file under its name, as editors and configuration tools write."""
    new = write_tokens(file.with_suffix(".new"), {"admin": TOKENS["admin"]})
    new.replace(file)


def lend(file: Path) -> None:
    """Written with a mode that is refused, which changes nothing; the remedy of the warning changes the mode alone."""
    write_tokens(file, {"admin": TOKENS["admin"]})
    os.chmod(file, 0o644)
    time.sleep(2 * CHECK_INTERVAL_S)
    os.chmod(file, 0o600)


@pytest.mark.parametrize("change", [rewrite, replace, lend])
def test_a_token_that_was_taken_back_is_gone_however_its_file_was_changed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    file = write_tokens(tmp_path / "tokens")
    with (
        serving(tmp_path / "learner", tokens=str(file)) as process,
        connect(process.address, Credentials(token=TOKENS["viewer"])) as channel,
    ):
        assert call(channel, GET_STATUS) == grpc.StatusCode.OK
        stop = threading.Event()

        def ask() -> None:
            while not stop.wait(0.2):
                call(channel, GET_STATUS)

        asking = threading.Thread(target=ask)  # so that the learner looks at the file at every moment
        asking.start()
        try:
            change(file)
            gone = grpc.StatusCode.UNAUTHENTICATED
            until(lambda: call(channel, GET_STATUS) == gone, what="the token is gone")
        finally:
            stop.set()
            asking.join()


def test_a_change_while_the_file_is_first_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_tokens(tmp_path / "tokens")

    def read_then_changed(path: Path) -> bytes:
        text = path.read_bytes()
        write_tokens(path, {"admin": TOKENS["admin"]})
        return text

    monkeypatch.setattr(authorization_tokens, "read_secret", read_then_changed)
    tokens = Tokens.load(str(file), {})
    assert tokens is not None and tokens.role(TOKENS["viewer"]) == "viewer"
    monkeypatch.undo()
    until(lambda: tokens.role(TOKENS["viewer"]) is None, what="the change is noticed")


@pytest.mark.parametrize("name", ["GetStatus", "FetchPolicy", "ServerReflectionInfo"])
def test_wrong_tokens_are_tried_no_faster_than_calls_may_come(tmp_path: Path, name: str) -> None:
    file = write_tokens(tmp_path / "tokens")
    method = next(m for m in METHODS if m.name == name)
    right = next(token for role, token in TOKENS.items() if role in (roles_of(path_of(method)) or ()))
    with serving(tmp_path / "learner", tokens=str(file)) as process, connect(process.address) as channel:

        def try_one(guess: int) -> grpc.StatusCode:
            return call(channel, method, metadata=[("authorization", f"Bearer wrong-token-{guess:010}")])

        began_s = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(try_one, range(int(BURST) + 400)))
        took_s = time.monotonic() - began_s
        tried = codes.count(grpc.StatusCode.UNAUTHENTICATED)
        assert BURST <= tried <= BURST + CALLS_PER_S * took_s + 1
        assert codes.count(grpc.StatusCode.UNAVAILABLE) == len(codes) - tried
        header = [("authorization", f"Bearer {right}")]

        def right_one_waits() -> bool:
            """Whether a right token is not even looked at; on a busy machine a call may be free again by then."""
            while try_one(0) == grpc.StatusCode.UNAUTHENTICATED:
                pass
            return call(channel, method, metadata=header) == grpc.StatusCode.UNAVAILABLE

        # Who could tell a right token from a wrong one meanwhile would have tried it.
        until(right_one_waits, what="a right token waits too")
        time.sleep(2 / CALLS_PER_S)
        assert call(channel, method, metadata=header) not in REFUSED | {grpc.StatusCode.UNAVAILABLE}
