"""`covey check-env` refuses what the learner would refuse for its size, in the learner's words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.processes import covey

from covey.cli import run
from covey.cli.run_limits import run_limits
from covey.config import load_config
from covey.envs import load_environment, read_spaces
from covey.errors import ConfigError
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey_server.build import PopulationFactory

CROWD = "tests.support.observed_environments:Crowd"

WIDE = {"encoder_config": {"hidden_size": [8000, 8000]}}


def job(folder: Path, crowd: dict[str, int], **sections: Any) -> Path:
    path = folder / "job.yaml"
    environment = {"name": CROWD, "config": crowd, "num_envs": 1}
    training = {"pop_size": 2, "max_steps": 64, "evo_steps": 64}
    path.write_text(yaml.safe_dump({"environment": environment, "training": training, **sections}))
    return path


def answer(capfd: pytest.CaptureFixture[str], *arguments: object, code: int) -> dict[str, Any]:
    assert run(["check-env", *map(str, arguments), "--steps", "5", "--json"]) == code
    out, err = capfd.readouterr()
    assert not err
    result: dict[str, Any] = json.loads(out)
    return result


TOO_LARGE: dict[str, tuple[dict[str, int], dict[str, Any], str]] = {
    "many agents": ({"agents": 100, "width": 1024}, {"algorithm": {"name": "MADDPG"}}, "parameters in the 2 members"),
    "wide Box": ({"agents": 1, "width": 1_500_000}, {"algorithm": {"name": "IPPO"}}, "more than 67108864 parameters"),
    "wide layers": ({}, {"algorithm": {"name": "MATD3"}, "network": WIDE}, "parameters in the 2 members"),
    "many members": (
        {"width": 512},
        {"algorithm": {"name": "IPPO"}, "training": {"pop_size": 512}, "learner": {"max_memory_bytes": 1 << 28}},
        "parameters in the 512 members",
    ),
    "large replay": (
        {"width": 4096},
        {"algorithm": {"name": "MADDPG"}, "learner": {"max_memory_bytes": 1 << 30}},
        "a full replay memory",
    ),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_a_run_that_join_and_training_refuse_is_refused(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    crowd, sections, says = TOO_LARGE[kind]
    path = job(tmp_path, crowd, **sections)
    found = answer(capfd, "--config", path, code=4)
    [sentence] = found["cannot"]
    assert says in sentence and not found["trainable"] and found["parameters"] == {}
    spaces = read_spaces(load_environment(CROWD, crowd)())
    with pytest.raises(ConfigError) as refused:
        PopulationFactory(load_config(path)).fresh(spaces)  # what Join and `covey train` call
    assert str(refused.value) == sentence


def test_covey_train_says_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = job(tmp_path, {}, algorithm={"name": "MATD3"}, network=WIDE)
    [sentence] = answer(capfd, "--config", path, code=4)["cannot"]
    trained = covey("train", path, "--runs", tmp_path, "--json")
    assert trained.returncode == 2 and trained.stderr.splitlines()[-1] == f"covey: error: {sentence}"


def test_without_a_configuration_every_algorithm_is_tried_with_its_defaults(capfd: pytest.CaptureFixture[str]) -> None:
    crowd = ["--config", "agents=90", "--config", "width=1024"]
    found = answer(capfd, CROWD, *crowd, code=0)
    assert set(found["parameters"]) == {"IPPO", "MAPPO", "PQN", "QMIX", "VDN"}, (
        "agents of a group share one policy there"
    )
    refused = [s.partition(" with the defaults: network: ")[0] for s in found["will"] if "with the defaults: n" in s]
    assert refused == ["MADDPG", "MATD3"]
    found = answer(capfd, CROWD, "--config", "agents=1", "--config", "width=1500000", code=4)
    assert [s.split(" with ")[0] for s in found["cannot"]] == [
        "IPPO and MADDPG and MAPPO and MATD3 and PQN and QMIX and VDN"
    ]


def test_rows_of_which_no_slot_fits_into_a_fragment(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, CROWD, "--config", "agents=3", "--config", "width=1000000", code=4)
    assert found["cannot"] == [
        "environment: one env step is 12000058 bytes, expected at most 8388608; shrink the observations"
    ]
    # Agents that wait repeat earlier rows: a step fits, and two of one slot with these rows do not.
    seen = Box("float32", (500_000,), (-1.0,) * 500_000, (1.0,) * 500_000)
    waiting = EnvironmentSpaces.build([AgentSpec(f"a_{i}", seen, Discrete(2)) for i in range(4)], asynchronous=True)
    [sentence] = run_limits(waiting, CROWD, None).cannot
    assert "for 1 slots, expected at most 0" in sentence and sentence.endswith("shrink the observations")
    few = answer(capfd, CROWD, "--config", "width=100000", code=0)
    assert any(s.startswith("memory: a row is 800,") and "at most 10 training slots" in s for s in few["will"])


def test_numbers_that_join_does_not_read(capfd: pytest.CaptureFixture[str]) -> None:
    found = answer(capfd, CROWD, "--config", "agents=5", "--config", "width=1000000", code=4)
    assert "numbers in the Boxes of all agents" in found["cannot"][0]


def test_what_the_file_says_of_the_environment_holds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = job(tmp_path, {"agents": 4}, algorithm={"name": "IPPO"})
    found = answer(capfd, CROWD, "--config", path, "--config", "width=5", code=0)
    assert len(found["agents"]) == 4 and "(5,)" in found["agents"][0]["observation"]
    assert found["will"][-1].startswith("networks: parameters of one member: IPPO ")
    grouped = yaml.safe_load(path.read_text())
    grouped["environment"]["groups"] = {"left": ["a_0", "a_1"], "right": ["a_2", "a_3"]}
    path.write_text(yaml.safe_dump(grouped))
    found = answer(capfd, "--config", path, code=0)
    assert [a["group"] for a in found["agents"]] == ["left", "left", "right", "right"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["mpe2.simple_v3", "--config", "job.yaml"],
            "is of a run in tests.support.observed_environments:Crowd",
        ),
        (["--config", "agents=3"], "MODULE: missing, expected an environment"),
        ([CROWD, "--config", "agents"], "expected key=value"),
        (["--config", "job.yaml", "--config", "job.yaml"], "or one YAML file of a run"),
        (["--config", "none.yaml"], "config none.yaml cannot be read"),
    ],
)
def test_what_cannot_be_meant(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    job(tmp_path, {}, algorithm={"name": "IPPO"})
    monkeypatch.chdir(tmp_path)
    assert run(["check-env", *arguments]) == 2
    err = capfd.readouterr().err
    assert says in err and err.count("\n") == 1


def test_without_the_learners_packages_networks_are_not_counted_and_the_rest_is_told() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from covey.cli import run; "
        f"sys.exit(run(['check-env', {CROWD!r}, '--steps', '5']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    [line] = [line for line in result.stdout.splitlines() if "networks: " in line]
    assert line.startswith(
        "+ networks: those of IPPO, MADDPG, MAPPO, MASAC, MATD3, PQN, QMIX, VDN are not counted, as their code does "
        "not load here (Module"
    )
    assert line.endswith("; install the learner extra")
