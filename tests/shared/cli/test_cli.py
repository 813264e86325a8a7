"""The command line: answers from a learner and from files, and one sentence with an exit code for every failure."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

import covey
from covey.cli import run
from covey.run.files import write_json
from covey.run.reports import actors_json, member_json, members_json, status_json
from covey.v1 import population_service_pb2 as pb
from covey.v1.population_service_pb2_grpc import PopulationServiceServicer, add_PopulationServiceServicer_to_server

MEMBERS = [
    pb.MemberInfo(member_id=7, generation=2, env_steps=3000, updates=90, state="collecting", mutation="elite"),
    pb.MemberInfo(
        member_id=8,
        parent_id=7,
        generation=2,
        env_steps=3000,
        fitness=-20.25,
        fitness_stderr=0.5,
        hyperparameters_json='{"lr_actor": 0.001, "lr_critic": 0.003, "batch_size": 256, "learn_step": 25}',
        mutation="rl_hp",
        change="lr_actor 0.001 -> 0.0012",
        state="settling",
    ),
]
DEAD = pb.MemberInfo(member_id=1, mutation="initial", state="dead", died_generation=0)
ACTORS = [pb.ActorInfo(actor_id="a1", state="active", slots=8, env_steps=6000, env_steps_per_s=512.5, hostname="here")]

ANSWERS = {
    "status": status_json(pb.Status(state="complete", run_name="job")),
    "members": members_json(MEMBERS),
    "lineage": members_json(sorted([DEAD, *MEMBERS], key=lambda m: m.member_id)),
    "actors": actors_json(ACTORS),
}
"""Of the run below."""


class Service(PopulationServiceServicer):
    """A learner's control plane with a population that stands still."""

    def __init__(self, run_dir: Path) -> None:
        self.status = pb.Status(
            state="training", run_name="job", run_dir=str(run_dir), population_size=2, max_steps=5000, env_steps=6000
        )
        self.asked: list[str] = []

    def GetStatus(self, request: Any, context: Any) -> pb.GetStatusResponse:
        return pb.GetStatusResponse(status=self.status)

    def WatchStatus(self, request: Any, context: Any) -> Iterator[pb.WatchStatusResponse]:
        for _ in range(3):
            self.status.env_steps += 1
            yield pb.WatchStatusResponse(status=self.status)
            time.sleep(request.interval_s)

    def ListMembers(self, request: Any, context: Any) -> pb.ListMembersResponse:
        return pb.ListMembersResponse(members=MEMBERS)

    def GetLineage(self, request: Any, context: Any) -> Iterator[pb.GetLineageResponse]:
        for member in sorted([DEAD, *MEMBERS], key=lambda m: m.member_id):
            yield pb.GetLineageResponse(members=[member])

    def ListActors(self, request: Any, context: Any) -> pb.ListActorsResponse:
        return pb.ListActorsResponse(actors=ACTORS)

    def Pause(self, request: Any, context: Any) -> pb.PauseResponse:
        self.asked.append("pause")
        return pb.PauseResponse()

    def Resume(self, request: Any, context: Any) -> pb.ResumeResponse:
        self.asked.append("resume")
        return pb.ResumeResponse()

    def Checkpoint(self, request: Any, context: grpc.ServicerContext) -> pb.CheckpointResponse:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "checkpoints/00000003 cannot be written (No space left)")

    def DrainActor(self, request: Any, context: grpc.ServicerContext) -> pb.DrainActorResponse:
        if request.actor_id != "a1":
            context.abort(grpc.StatusCode.NOT_FOUND, f"actor {request.actor_id}: not known, expected one of a1")
        self.asked.append("drain")
        return pb.DrainActorResponse()

    def GetMember(self, request: Any, context: grpc.ServicerContext) -> pb.GetMemberResponse:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    def DownloadMember(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.DownloadMemberResponse]:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    def Shutdown(self, request: Any, context: grpc.ServicerContext) -> pb.ShutdownResponse:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./runs/job-1, the only run, as a learner that has completed leaves it."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "runs" / "job-1"
    directory.mkdir(parents=True)
    write_json(directory / "status.json", ANSWERS["status"])
    write_json(directory / "members.json", members_json(MEMBERS))
    (directory / "lineage.jsonl").write_text(json.dumps(member_json(DEAD)) + "\n")
    write_json(directory / "actors.json", actors_json(ACTORS))
    return directory


def test_the_lineage_of_a_run_that_ended_says_how_the_living_were_born(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lineage", str(run_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWERS["lineage"], "runs of before have members.json alone"
    living = members_json(MEMBERS)["members"]
    write_json(run_dir / "living.json", {"members": [m | {"mutation": "none", "change": "by hand"} for m in living]})
    assert run(["lineage", str(run_dir), "--json"]) == 0
    told = {m["member_id"]: m["change"] for m in json.loads(capsys.readouterr().out)["members"]}
    assert told == {m["member_id"]: "by hand" for m in living} | {1: ""}
    assert run(["members", str(run_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == members_json(MEMBERS)


@pytest.fixture
def learner(run_dir: Path) -> Iterator[tuple[Service, str]]:
    """A learner that trains ./runs/job-1, and its address."""
    service = Service(run_dir)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_PopulationServiceServicer_to_server(service, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield service, address
    server.stop(None).wait()


def failure(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """Run a command that must fail with this exit code; its one sentence."""
    assert run(arguments) == code
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("covey: error: ")
    assert captured.out == ""
    return lines[0].removeprefix("covey: error: ")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that a command prints."""
    assert run(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"covey {covey.__version__}\n"
    assert run([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("train", "learner", "actor", "status", "watch", "evaluate"))


@pytest.mark.parametrize("question", ["status", "members", "lineage", "actors"])
def test_a_finished_run_answers_from_its_files(
    run_dir: Path, capsys: pytest.CaptureFixture[str], question: str
) -> None:
    expected = ANSWERS[question]
    assert printed(capsys, question, str(run_dir), "--json") == expected
    assert printed(capsys, question, "--json") == expected, "the newest run is the default"


@pytest.mark.parametrize("question", ["members", "lineage", "actors"])
def test_a_running_learner_answers(
    learner: tuple[Service, str], capsys: pytest.CaptureFixture[str], question: str
) -> None:
    assert printed(capsys, question, "--learner", learner[1], "--json") == ANSWERS[question]


def test_a_run_that_is_trained_now_is_asked_through_its_address(
    learner: tuple[Service, str], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(run_dir / "address.json", {"address": learner[1]})
    assert printed(capsys, "status", str(run_dir), "--json")["state"] == "training"


def test_an_address_that_another_run_has_taken_is_not_asked(
    learner: tuple[Service, str], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(run_dir / "address.json", {"address": learner[1]})
    learner[0].status.run_dir = "/elsewhere/runs/job-2"
    assert printed(capsys, "status", str(run_dir), "--json")["state"] == "complete"


def test_files_of_a_run_that_broke_off_are_shown_with_a_note(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(run_dir / "status.json", status_json(pb.Status(state="training")))
    write_json(run_dir / "address.json", {"address": "127.0.0.1:1"})
    assert run(["members", str(run_dir), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == members_json(MEMBERS)
    assert "its learner has not been heard of for" in captured.err


def test_watch_prints_one_object_a_line_until_the_run_ends(
    learner: tuple[Service, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["watch", "--learner", learner[1], "--interval", "0.1", "--json"]) == 0
    assert [json.loads(line)["env_steps"] for line in capsys.readouterr().out.splitlines()] == [6001, 6002, 6003]


@pytest.mark.parametrize("command", ["status", "members", "lineage", "actors", "watch"])
def test_tables_fit_100_columns(learner: tuple[Service, str], capsys: pytest.CaptureFixture[str], command: str) -> None:
    learner[0].status.events.extend(["actor a3 silent for 11 s; its 256 steps went to others. " * 4])
    assert run([command, "--learner", learner[1]]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    facts = {"members": "-20.25 ±0.50", "lineage": "lr_actor 0.001 -> 0.0012", "actors": "512", "status": "of 10,000"}
    assert facts.get(command, "job") in text


def test_steering_reaches_the_learner(learner: tuple[Service, str], capsys: pytest.CaptureFixture[str]) -> None:
    service, address = learner
    for arguments in (["pause"], ["resume"], ["drain", "a1"]):
        assert run([*arguments, "--learner", address]) == 0
    assert service.asked == ["pause", "resume", "drain"]


def test_steering_without_an_address_takes_the_newest_run(
    learner: tuple[Service, str], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no learner trains it now" in failure(capsys, 5, "pause", "job-1")
    write_json(run_dir / "address.json", {"address": learner[1]})
    assert run(["pause"]) == 0
    assert "the newest run is runs/job-1" in capsys.readouterr().err
    assert run(["resume", "job"]) == run(["drain", "a1", str(run_dir)]) == 0
    assert learner[0].asked == ["pause", "resume", "drain"]


def test_what_a_learner_refuses_is_one_sentence(
    learner: tuple[Service, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "a9: not known" in failure(capsys, 6, "drain", "a9", "--learner", learner[1])
    assert "No space left" in failure(capsys, 7, "checkpoint", "--learner", learner[1])
    assert "is a covey learner listening there?" in failure(capsys, 6, "stop", "--learner", learner[1])


def test_an_unreachable_learner_fails_fast_as_a_process() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "covey", "status", "--learner", "127.0.0.1:1"], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr.startswith("covey: error: learner 127.0.0.1:1 does not answer (")
    assert result.stderr.count("\n") == 1


def test_debug_shows_the_traceback_and_keeps_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--learner", "127.0.0.1:1", "--debug"]) == 5
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.splitlines()[-1].startswith("covey: error: learner")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["statsu"], 2, "No such command 'statsu'. Did you mean 'status'"),
        (["status", "--nope"], 2, "No such option: --nope"),
        (["drain"], 2, "Missing argument 'ACTOR'"),
        (["status", "--learner", "localhost"], 2, "address 'localhost': expected HOST:PORT"),
        (["status", "--learner", "localhost:99999"], 2, "expected HOST:PORT"),
        (["status", "runs/job-1", "--learner", "localhost:1"], 2, "both given"),
        (["status", "runs/none"], 7, "run runs/none: no such directory"),
        (["watch", "runs/none"], 7, "no such directory"),
        (["evaluate", "runs/none"], 7, "no such directory"),
    ],
)
def test_a_bad_command_line_is_one_sentence(
    run_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    assert text in failure(capsys, code, *arguments)


def test_damaged_files_of_a_run_are_one_sentence(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_dir / "status.json").write_text('{"state": ')
    assert "status.json is not JSON" in failure(capsys, 7, "status", str(run_dir))
    (run_dir / "status.json").write_text("[]")
    assert "expected an object" in failure(capsys, 7, "status", str(run_dir))
    (run_dir / "status.json").unlink()
    assert "status.json cannot be read" in failure(capsys, 7, "status", str(run_dir))


def test_no_run_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert "./runs holds no run" in failure(capsys, 7, "status")


def test_a_bad_configuration_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("algorithm: {name: MATD3, lr_acter: 1}\nenvironment: {name: mpe2.simple_v3}\ntraining: {}\n")
    assert failure(capsys, 2, "train", str(job)) == "algorithm.lr_acter: unknown key; did you mean 'lr_actor'?"
    assert "cannot be read" in failure(capsys, 2, "train", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("absent", ["torch", "covey_server.cli"])
def test_a_command_whose_extra_is_missing_names_it_and_the_others_work(tmp_path: Path, absent: str) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("algorithm: {name: MATD3}\nenvironment: {name: mpe2.simple_v3}\ntraining: {}\n")
    program = (
        f"import sys; sys.modules[{absent!r}] = None; from covey.cli import run; "
        f"first = run(['learner', {str(job)!r}, '--runs', {str(tmp_path)!r}]); "
        "second = run(['status', '--learner', '127.0.0.1:1']); "
        "sys.exit(0 if (first, second) == (2, 5) else f'{first} {second}')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    first, second = result.stderr.splitlines()
    assert "needs the learner extra: pip install 'covey-marl[learner]'" in first
    assert "does not answer" in second
