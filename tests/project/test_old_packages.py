"""An actor runs beside the old packages that many environments still ask for, and trains with an ordinary learner."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support.distributions import wheel_of
from tests.support.processes import ENVIRONMENT, PATIENCE_S, started
from tests.support.stranger import Stranger, build_distributions

OLD = ("numpy==1.26.4", "gymnasium==0.28.1", "pettingzoo==1.24.3", "pydantic==1.9.1")

TAG = """
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from pettingzoo import ParallelEnv

# Of gymnasium 0.28 a MultiDiscrete has no `start`.
SEEN, MOVES = Box(-1.0, 1.0, (2,), np.float32), MultiDiscrete([3, 2])

class Tag(ParallelEnv):
    metadata = {"name": "tag_v0"}
    possible_agents = ["runner_0", "runner_1"]

    def observation_space(self, agent):
        return SEEN

    def action_space(self, agent):
        return MOVES

    def reset(self, seed=None, options=None):
        self.rng, self.time, self.agents = np.random.default_rng(seed), 0, list(self.possible_agents)
        return self.seen(), {a: {} for a in self.agents}

    def seen(self):
        return {a: self.rng.uniform(-1, 1, 2).astype(np.float32) for a in self.agents}

    def step(self, actions):
        self.time += 1
        over, seen, there = self.time == 10, self.seen(), list(self.agents)
        if over:
            self.agents = []
        rewards = {a: float(actions[a].sum()) for a in there}
        return seen, rewards, dict.fromkeys(there, False), dict.fromkeys(there, over), {a: {} for a in there}

def parallel_env():
    return Tag()
"""


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Stranger]:
    """A machine with the old packages and covey's wheel without extras."""
    build_distributions(tmp_path / "dist")
    made = Stranger(tmp_path)
    made.pip(*OLD, f"covey-marl @ {wheel_of(tmp_path / 'dist').as_uri()}")
    (tmp_path / "tag.py").write_text(TAG)
    yield made
    shutil.rmtree(made.environment)


def address_of(run: Path, learner: subprocess.Popen[str]) -> str:
    """The address of a learner that is starting."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and learner.poll() is None:
        for file in run.glob("*/address.json"):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.2)
    raise AssertionError("the learner did not start")


@pytest.mark.engines
@pytest.mark.timeout(900)
def test_an_actor_beside_old_packages_trains_and_says_what_needs_new_ones(old: Stranger, tmp_path: Path) -> None:
    versions = old.python(
        "import numpy, gymnasium, pettingzoo, pydantic; print(numpy.__version__, "
        "gymnasium.__version__, pettingzoo.__version__, pydantic.VERSION)"
    )
    assert versions.split() == [package.partition("==")[2] for package in OLD]

    checked = old.covey("check-env", "./tag.py", "--steps", "50")
    assert "pydantic 1.9.1 is installed, expected 2.7 or newer" in checked
    assert "PettingZoo's API test: passed" in checked, checked
    for command in (("evaluate", "runs/x"), ("schema",)):
        said = old.covey(*command, code=2)
        assert said.count("\n") == 1 and "expected 2.7 or newer" in said, said

    job = {
        "algorithm": {"name": "IPPO", "learn_step": 50},
        "environment": {"name": "tag", "num_envs": 2},
        "training": {"pop_size": 2, "max_steps": 200, "evo_steps": 100, "confirm_episodes": 2},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    runs = tmp_path / "runs"
    learn = [sys.executable, "-m", "covey", "learner", tmp_path / "job.yaml", "--bind", "127.0.0.1:0", "--runs", runs]
    with started(learn, environ=ENVIRONMENT, stdout=subprocess.DEVNULL) as learner:
        old.covey("actor", "--learner", address_of(runs, learner), "--env-path", ".", "--allow-env", "tag")
        assert learner.wait(PATIENCE_S) == 0
    (result,) = runs.glob("*/result.json")
    assert json.loads(result.read_text())["state"] == "complete"
