"""What a hostile learner, or the files of a foreign run, bring to a terminal: text that is shown, never obeyed."""

from __future__ import annotations

import ast
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from covey.cli import run
from covey.cli.tables import plain_console
from covey.cli.terminal import PrintableFormatter, printable, say_json
from covey.run.files import write_json
from covey.run.reports import actors_json, members_json, status_json
from covey.v1 import population_service_pb2 as pb
from covey.v1.population_service_pb2_grpc import PopulationServiceServicer, add_PopulationServiceServicer_to_server

ROOT = Path(__file__).parents[3]

EVIL = "\x1b]0;pwned\x07\x1b[2J\x1bc\x9b31m\r\x08\x7f\u202e\nstate  complete"
"""A title, a cleared screen, a reset, colour by a C1 code, overwriting, reversed text, and a row of its own."""

STATUS = pb.Status(
    state=EVIL,
    run_name=EVIL,
    run_dir=EVIL,
    algorithm=EVIL,
    environment=EVIL,
    events=[EVIL, "fine"],
    counters={EVIL: 3},
    gauges={EVIL: 5},
    threads=[pb.ThreadInfo(name=EVIL, kind=EVIL, alive=True)],
)
MEMBERS = [
    pb.MemberInfo(member_id=1, state=EVIL, mutation=EVIL, change=EVIL, hyperparameters_json=json.dumps({EVIL: 0.5}))
]
ACTORS = [pb.ActorInfo(actor_id=EVIL, state=EVIL, hostname=EVIL, incarnation=EVIL)]

QUESTIONS = ["status", "watch", "members", "lineage", "actors"]


class Hostile(PopulationServiceServicer):
    """A learner that answers everything with `EVIL`."""

    def GetStatus(self, request: Any, context: Any) -> pb.GetStatusResponse:
        return pb.GetStatusResponse(status=STATUS)

    def WatchStatus(self, request: Any, context: Any) -> Iterator[pb.WatchStatusResponse]:
        yield pb.WatchStatusResponse(status=STATUS)

    def ListMembers(self, request: Any, context: Any) -> pb.ListMembersResponse:
        return pb.ListMembersResponse(members=MEMBERS)

    def GetLineage(self, request: Any, context: Any) -> Iterator[pb.GetLineageResponse]:
        yield pb.GetLineageResponse(members=MEMBERS)

    def ListActors(self, request: Any, context: Any) -> pb.ListActorsResponse:
        return pb.ListActorsResponse(actors=ACTORS)

    def Checkpoint(self, request: Any, context: Any) -> pb.CheckpointResponse:
        return pb.CheckpointResponse(path=EVIL)

    def GetMember(self, request: Any, context: grpc.ServicerContext) -> pb.GetMemberResponse:
        context.abort(grpc.StatusCode.NOT_FOUND, EVIL)

    def DownloadMember(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.DownloadMemberResponse]:
        context.abort(grpc.StatusCode.NOT_FOUND, EVIL)

    def Resume(self, request: Any, context: grpc.ServicerContext) -> pb.ResumeResponse:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, EVIL)

    def DrainActor(self, request: Any, context: grpc.ServicerContext) -> pb.DrainActorResponse:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, EVIL)

    def Shutdown(self, request: Any, context: grpc.ServicerContext) -> pb.ShutdownResponse:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, EVIL)

    def Pause(self, request: Any, context: grpc.ServicerContext) -> pb.PauseResponse:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, EVIL)


@pytest.fixture
def learner() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_PopulationServiceServicer_to_server(Hostile(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield address
    server.stop(None).wait()


@pytest.fixture
def foreign_run(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir()
    write_json(directory / "status.json", status_json(STATUS))
    write_json(directory / "members.json", members_json(MEMBERS))
    write_json(directory / "actors.json", actors_json(ACTORS))
    (directory / "lineage.jsonl").write_text("")
    write_json(directory / "address.json", {"address": EVIL})
    return directory


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("command", QUESTIONS)
def test_what_a_learner_says_is_shown(
    learner: str, capsys: pytest.CaptureFixture[str], command: str, form: tuple[str, ...]
) -> None:
    assert run([command, "--learner", learner, *form]) == 0
    out, err = capsys.readouterr()
    assert harmless(out) and harmless(err)
    shown = "".join(out.split())
    assert "u001b]0;pwned" in shown if form else r"\x1b" in shown
    assert not [line for line in out.splitlines() if line.startswith("state  complete")]
    for text in (out.splitlines() if command == "watch" else [out]) if form else []:
        assert json.loads(text) and "\x7f" not in text


def test_what_a_learner_answers_to_orders_is_shown(learner: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["checkpoint", "--learner", learner]) == 0
    assert run(["pause", "--learner", learner]) == 6
    assert run(["resume", "--learner", learner]) == 2
    assert run(["drain", EVIL, "--learner", learner]) == 7
    assert run(["stop", "--learner", learner, "--debug"]) == 6
    out, err = capsys.readouterr()
    assert harmless(out) and harmless(err)
    assert out.startswith(r"\x1b]0;pwned\x07") and out.count("\n") == 1


@pytest.mark.parametrize("command", QUESTIONS)
def test_what_a_foreign_run_holds_is_shown(foreign_run: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run([command, str(foreign_run)]) == 0
    out, err = capsys.readouterr()
    assert harmless(out) and harmless(err) and r"\x1b" in out
    assert "address.json cannot be used" in err


@pytest.mark.parametrize("command", ["status", "watch", "actors"])
def test_on_a_terminal_too_where_tables_have_styles(learner: str, command: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "covey", command, "--learner", learner],
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 65536):
                text += piece
        except OSError:  # Linux says so when the last writer has gone
            pass
        assert process.wait(60) == 0, text
    os.close(ours)
    for sequence in (b"\x1b]", b"\x1b[2J", b"\x1bc", b"\x07", b"\x08", b"\x7f", "\x9b".encode(), "\u202e".encode()):
        assert sequence not in text
    assert b"pwned" in text


BROKEN: dict[str, Any] = {
    "no status": {},
    "numbers that are texts": {**status_json(STATUS), "max_steps": EVIL},
    "events that are none": {**status_json(STATUS), "gauges": [EVIL]},
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_an_answer_that_is_none_is_one_sentence(
    foreign_run: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    write_json(foreign_run / "status.json", BROKEN[what])
    (foreign_run / "address.json").unlink()
    assert run(["status", str(foreign_run)]) == 7
    out, err = capsys.readouterr()
    assert out == "" and harmless(err) and "gives an answer that this version of covey does not know" in err


def test_hyperparameters_that_are_no_json_are_one_sentence(
    learner: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [pb.MemberInfo(member_id=1, hyperparameters_json=EVIL)]
    monkeypatch.setattr(sys.modules[__name__], "MEMBERS", bad)
    for command in ("members", "lineage"):
        assert run([command, "--learner", learner]) == 7
        assert f"learner {learner} gives an answer" in capsys.readouterr().err


def test_log_messages_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("covey", logging.INFO, "", 0, "peer says %s", (EVIL,), None)
    assert harmless(PrintableFormatter().format(record))
    console = plain_console(stderr=True)
    console.print(f"peer says {EVIL}", style="bold")
    assert harmless(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é ± 日本", "plain é ± 日本"),
        ("\x1b[1m", r"\x1b[1m"),
        ("a\r\nb", r"a\r\nb"),
        ("\ud800\u2028", r"\ud800\u2028"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({EVIL: [EVIL]})
    text = capsys.readouterr().out
    assert harmless(text) and json.loads(text) == {EVIL: [EVIL]}


def test_an_ascii_terminal_ends_no_command(learner: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "covey", "members", "--learner", learner],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0, done.stderr


def test_nothing_prints_past_it() -> None:
    """Bare printing stands in the modules that make texts harmless, and where no peer speaks."""
    own = {
        "terminal.py",  # the one way out
        "tables.py",  # its console
        "schema.py",  # prints what covey itself has written
        "check_env.py",  # runs the environment's code anyway
    }
    found = []
    for folder in ("shared", "server", "actor_client"):
        for path in (p for p in (ROOT / folder).rglob("*.py") if "_pb2" not in p.name):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and path.name not in own:
                    name = ast.unparse(node.func)
                    constant = name == "print" and isinstance(node.args[0], ast.Constant)
                    if name in ("print", "typer.echo", "Console", "traceback.print_exc") and not constant:
                        found.append(f"{path.name}:{node.lineno} {name}")
    assert found == []
