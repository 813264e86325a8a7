"""A network that fails: what the proxy does to connections, and what learner and actors make of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.processes import PATIENCE_S, covey_json, free_port, newest_run, processes, until, write_config
from tests.support.proxy import FaultProxy, proxies
from tests.support.running_learners import MAX_STEPS, actors_with_steps, assert_exact_steps, status

from covey.v1.fragment_pb2 import RevokedOrders
from covey_server.storage.journal import Journal, Kind


@pytest.fixture
def make_proxy() -> Iterator[Callable[[str], FaultProxy]]:
    with proxies() as make:
        yield make


@pytest.fixture
def echo() -> Iterator[str]:
    """HOST:PORT of somebody who sends everything back."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    while data := connection.recv(1024):
                        connection.sendall(data)
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def client(proxy: FaultProxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    made = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
    made.sendall(b"hello")
    return made


def test_bytes_pass_until_the_line_is_cut_and_again_on_another_one(
    make_proxy: Callable[[str], FaultProxy], echo: str
) -> None:
    proxy = make_proxy(echo)
    with client(proxy) as first:
        assert first.recv(1024) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            first.recv(1024)
    with client(proxy) as second:
        assert second.recv(1024) == b"hello"


@pytest.mark.parametrize("ways", [{"down": False}, {"up": False}, {}])
def test_a_black_hole_lets_nothing_through_on_any_line_and_all_of_it_when_it_is_healed(
    make_proxy: Callable[[str], FaultProxy], echo: str, ways: dict[str, bool]
) -> None:
    proxy = make_proxy(echo)
    with client(proxy) as before:
        assert before.recv(1024) == b"hello"
        proxy.black_hole(**ways)
        before.sendall(b"anybody?")
        with client(proxy) as within:
            for line in (before, within):
                line.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    line.recv(1024)
                line.settimeout(PATIENCE_S)
            proxy.heal()
            assert before.recv(1024) == b"anybody?" and within.recv(1024) == b"hello"


def test_a_half_open_line_swallows_everything_and_ends_when_it_is_healed(
    make_proxy: Callable[[str], FaultProxy], echo: str
) -> None:
    proxy = make_proxy(echo)
    with client(proxy) as forgotten:
        assert forgotten.recv(1024) == b"hello"
        proxy.half_open()
        forgotten.sendall(b"anybody?")
        with client(proxy) as fresh:
            assert fresh.recv(1024) == b"hello", "only the lines that there were"
        forgotten.settimeout(0.2)
        with pytest.raises(TimeoutError):
            forgotten.recv(1024)
        proxy.heal()
        forgotten.settimeout(PATIENCE_S)
        with pytest.raises(ConnectionResetError):
            forgotten.recv(1024)


def test_a_slow_line_takes_its_time(make_proxy: Callable[[str], FaultProxy], echo: str) -> None:
    proxy = make_proxy(echo)
    proxy.slow(0.2, 1e6)
    began = time.monotonic()
    with client(proxy) as slow:
        assert slow.recv(1024) == b"hello"
        assert time.monotonic() - began >= 0.4, "there and back"


def test_nobody_behind_the_proxy_is_nobody_there(make_proxy: Callable[[str], FaultProxy]) -> None:
    proxy = make_proxy(f"127.0.0.1:{free_port()}")
    with pytest.raises(ConnectionResetError), client(proxy) as line:
        line.recv(1024)


def test_a_black_holed_actor_is_noticed_and_its_steps_move_and_a_replacement_works_at_once(
    make_proxy: Callable[[str], FaultProxy], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    lines = {name: make_proxy(address) for name in ("a1", "a2")}
    training = {"max_steps": MAX_STEPS, "evo_steps": MAX_STEPS // 2}
    # Slow enough for a process to start before the silence of the one before it is noticed.
    config = write_config(tmp_path / "hole.yaml", training=training, learner={"heartbeat_interval_s": 3.0})
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        for name, line in lines.items():
            start(tmp_path / f"{name}.log", "actor", "--learner", line.address, "--name", name)
        until(lambda: actors_with_steps(address) == {"a1", "a2"}, what="both are at work")
        for line in lines.values():
            line.black_hole()
        # One is replaced before anybody noticed, the other one is given up.
        start(tmp_path / "a2-again.log", "actor", "--learner", address, "--name", "a2")
        assert learner.wait() == 0, learner.output()
    run = newest_run(tmp_path / "runs")
    assert_exact_steps(run)
    states = [(a["actor_id"], a["state"]) for a in covey_json("actors", run, "--json")["actors"]]
    assert sorted(states) == [("a1", "lost"), ("a2", "fenced"), ("a2", "finished")]
    journal = Journal.open(run / "journal", 1 << 25)
    reasons = [RevokedOrders.FromString(p).reason for _, kind, p in journal.read() if kind == Kind.REVOKED]
    journal.close()
    assert any("a1 silent" in reason for reason in reasons) and any("a2 was replaced" in reason for reason in reasons)
