"""How `covey train` starts: what it refuses before torch is imported, and what becomes of the actors started before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.support.processes import ENVIRONMENT, free_port, processes, started, until, write_config

PRINTING = """
print("an environment that talks as it is imported")
from mpe2.simple_speaker_listener_v4 import parallel_env
"""


def local_actors(folder: Path) -> list[psutil.Process]:
    """The actor processes that search this folder for environments, as those of a configuration in it do."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if "covey_actor" in words and str(folder) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of two local actors."""
    return write_config(tmp_path / "job.yaml", actors={"local": 2})


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder whose modules are imported in place of others."""
    folder = tmp_path / "stand_ins"
    folder.mkdir()
    return folder


def train(folder: Path, *arguments: object, stand_ins: Path) -> subprocess.CompletedProcess[str]:
    """Run `covey train` in a folder, with modules that stand in for installed ones."""
    command = [sys.executable, "-m", "covey", "train", "--runs", str(folder / "runs"), *map(str, arguments)]
    environ = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(stand_ins), ENVIRONMENT["PYTHONPATH"]])}
    pipe = subprocess.PIPE
    with started(command, environ=environ, stdout=pipe, stderr=pipe, cwd=folder) as process:
        out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (None, 2, "cannot be read"),
        ("training: {pop_sise: 4}", 2, "algorithm: missing"),
        ("[1, 2", 2, "job.yaml"),
        ("algorithm: {name: NONE}", 2, "algorithm.name"),
    ],
)
def test_a_faulty_file_is_told_before_anything_large_is_imported(
    tmp_path: Path, stand_ins: Path, text: str | None, code: int, said: str
) -> None:
    for module in ("torch", "numpy", "gymnasium", "grpc"):
        (stand_ins / f"{module}.py").write_text(f"raise SystemExit('{module} was imported')")
    if text is not None:
        (tmp_path / "job.yaml").write_text(text)
    done = train(tmp_path, tmp_path / "job.yaml", stand_ins=stand_ins)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert said in done.stderr and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("override", "code", "said"),
    [
        ("environment.name=no.such_module", 3, "no module 'no'"),
        ("environment.name=mpe2.simple_v3:none", 3, "has no function"),
        ("environment.name=./none.py", 3, "no such file"),
        ("learner.tls={certificate: a, key: b}", 2, "expected none for covey train"),
    ],
)
def test_what_torch_has_no_part_in_is_refused_before_it_is_imported(
    config: Path, stand_ins: Path, override: str, code: int, said: str
) -> None:
    (stand_ins / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = train(config.parent, config, "--set", override, stand_ins=stand_ins)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert said in done.stderr and not (config.parent / "runs").exists()


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("learner.device=cuda:99", 2),
        ("environment.config={no_such: 1}", 3),
        ("fitness.agents=[nobody]", 2),
        ("learner.bind='127.0.0.1:{taken}'", 8),
    ],
)
def test_a_start_that_is_refused_later_leaves_no_actor_no_run_and_one_sentence(
    config: Path, stand_ins: Path, override: str, code: int
) -> None:
    (config.parent / "talking.py").write_text(PRINTING)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        override = override.replace("{taken}", str(taken.getsockname()[1]))
        done = train(config.parent, config, "--set", override, "--set", "environment.name=talking", stand_ins=stand_ins)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if "talks as it is imported" not in line]
    said = [line for line in lines if line[9:16] != "memory:"]  # what the run would take, said as spaces are known
    assert len(said) == 1 and said[0].startswith("covey: error: ")
    assert "local-" not in done.stderr, "what the actors' imports say belongs to a run that has begun"
    assert local_actors(config.parent) == []
    assert list((config.parent / "runs").iterdir()) == []


IMPORTS = {
    "waiting": "import time\ntime.sleep(600)",
    # What is raised in a destructor, as in other callbacks of the interpreter, is printed and forgotten.
    "in destructors": """
import time
class Slow:
    def __del__(self):
        time.sleep(600)
while True:
    Slow()
""",
}


@pytest.mark.parametrize(
    ("number", "code", "importing"),
    [
        (signal.SIGINT, 130, "waiting"),
        (signal.SIGINT, 130, "in destructors"),
        (signal.SIGTERM, 143, "in destructors"),
        (signal.SIGHUP, 129, "waiting"),
        (signal.SIGKILL, -9, "waiting"),
    ],
)
def test_a_signal_while_torch_is_imported_leaves_no_actor(
    config: Path, stand_ins: Path, number: signal.Signals, code: int, importing: str
) -> None:
    (stand_ins / "torch.py").write_text(IMPORTS[importing])
    environ = {"PYTHONPATH": os.pathsep.join([str(stand_ins), ENVIRONMENT["PYTHONPATH"]])}
    folder = config.parent
    with processes() as start:
        process = start(folder / "log", "train", config, "--runs", folder / "runs", environ=environ)
        until(lambda: len(local_actors(folder)) == 2, what="actors start before torch is imported")
        process.popen.send_signal(number)
        assert process.wait() == code
        until(lambda: not local_actors(folder), what="the actors have left")
        assert "Traceback" not in process.output()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_learner_alone_ends_while_torch_is_imported_too(
    config: Path, stand_ins: Path, number: signal.Signals, code: int
) -> None:
    mark = config.parent / "imported"
    (stand_ins / "torch.py").write_text(f"open({str(mark)!r}, 'w').close()\n{IMPORTS['in destructors']}")
    environ = {"PYTHONPATH": os.pathsep.join([str(stand_ins), ENVIRONMENT["PYTHONPATH"]])}
    with processes() as start:
        log, runs = config.parent / "log", config.parent / "runs"
        process = start(log, "learner", config, "--runs", runs, "--bind", "127.0.0.1:0", environ=environ)
        until(mark.exists, what="torch is imported")
        process.popen.send_signal(number)
        assert process.wait() == code
        assert "Traceback" not in process.output()


def test_actors_leave_a_learner_that_was_killed_at_work(config: Path) -> None:
    folder = config.parent
    with processes() as start:
        process = start(folder / "log", "train", config, "--runs", folder / "runs", "--steps", 10**6)
        until(lambda: list(folder.glob("runs/*/status.json")), what="it trains")
        assert len(local_actors(folder)) == 2
        process.kill()
        until(lambda: not local_actors(folder), what="the actors have left")
