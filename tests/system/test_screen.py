"""What `covey train` shows: the learner and its actors line by line, nothing cut off, and JSON only if asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT, PATIENCE_S, covey, started, write_config

TALKER = '''
import sys
from tests.support.written_environments import Plain

class Talker(Plain):
    """Prints in every first reset; its agents have names from which no group follows."""

    names = ("caller", "pilot")
    told = False

    def reset(self, seed=None, options=None):
        if not self.told:
            print("hello from the environment, which has quite a lot to say: " + 200 * "x", flush=True)
            print("a warning of it", file=sys.stderr, flush=True)
        self.told = True
        return super().reset(seed, options)

def parallel_env():
    return Talker()
'''


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The configuration of a short run with a name that is long, of an environment that prints."""
    (tmp_path / "talker.py").write_text(TALKER)
    training = {"max_steps": 128, "evo_steps": 64, "pop_size": 2, "confirm_episodes": 2}
    environment = {"name": "talker", "num_envs": 2, "config": {}}
    job = write_config(tmp_path / "job.yaml", training=training, environment=environment, actors={"local": 2})
    return job


def check_lines(lines: list[str]) -> None:
    """Assert what must be true of the lines that `covey train` prints, in a pipe as in a terminal."""
    text = "\n".join(lines)
    told = [len(re.findall(rf"{actor}:? joined", text)) for actor in ("local-0", "local-1")]
    assert max(told) == 1, "whoever joined in so short a run is told once"
    assert any(re.fullmatch(r"local-\d: a warning of it *", line) for line in lines), text
    assert any(re.match(r"local-\d: hello from the environment", line) for line in lines), text
    assert "does not end in an index" not in text, "a note of covey check-env"
    assert "+-" not in text and "±" in text
    assert not set("┃│…") & set(text)
    assert "complete; next:" in text and '{"run_dir"' not in text


def test_in_a_pipe_it_is_lines_and_no_json(job: Path, tmp_path: Path) -> None:
    done = covey("train", job, "--runs", tmp_path / "runs")
    assert done.returncode == 0 and done.stdout == "", done.stdout
    check_lines(done.stderr.splitlines())


def test_with_json_it_is_one_object_whatever_the_environment_prints(job: Path, tmp_path: Path) -> None:
    done = covey("train", job, "--runs", tmp_path / "runs", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["state"] == "complete"
    assert "a warning of it" in done.stderr and "generation" not in done.stderr and "joined" not in done.stderr
    asked = (["evaluate", json.loads(done.stdout)["run_dir"], "--episodes", 1], ["check-env", tmp_path / "talker.py"])
    for command in asked:
        done = covey(*command, "--json")
        assert done.returncode == 0 and isinstance(json.loads(done.stdout), dict), done.stdout
        assert command[0] == "check-env" or "hello from the environment" in done.stderr  # check-env drops it


def test_in_a_terminal_nothing_is_written_into_the_progress_bar(job: Path, tmp_path: Path) -> None:
    mine, its = os.openpty()
    command = [sys.executable, "-m", "covey", "train", job, "--runs", tmp_path / "runs"]
    environ = ENVIRONMENT | {"TERM": "xterm", "LINES": "24", "COLUMNS": "80"}
    shown = b""
    with started(command, environ=environ, stdin=subprocess.DEVNULL, stdout=its, stderr=its) as process:
        os.close(its)
        try:
            while piece := os.read(mine, 4096):
                shown += piece
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(mine)
        assert process.wait(PATIENCE_S) == 0
    text = re.sub(r"\x1b\[2K|\r", "\n", shown.decode(errors="replace"))
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()
    check_lines(lines)
    assert not any("generation" in line and ("local-" in line or "hello" in line) for line in lines)
