"""`covey train` and what follows it where observations are a Dict or Tuple, with real processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.support.processes import covey
from tests.support.tree_environments import MaskedTrees, TreeActions, Trees, TupleOfMaskedTrees

import covey as library
from covey.errors import SpaceError

HERE = "tests.support.tree_environments"
KINDS = {"Trees": Trees, "MaskedTrees": MaskedTrees, "TupleOfMaskedTrees": TupleOfMaskedTrees}
TEXTS = {"Trees": ["mission"], "MaskedTrees": ["mission"], "TupleOfMaskedTrees": ["2"]}


def configuration(folder: Path, name: str, algorithm: str, ignored: list[str], max_steps: int = 128) -> Path:
    path = folder / "job.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "algorithm": {"name": algorithm},
                "environment": {"name": f"{HERE}:{name}", "num_envs": 2, "ignore_observations": ignored},
                "training": {"max_steps": max_steps, "evo_steps": 64, "pop_size": 2, "confirm_episodes": 2},
                "actors": {"local": 1},
            }
        )
    )
    return path


@pytest.mark.parametrize(
    ("name", "algorithm"), [("Trees", "MATD3"), ("MaskedTrees", "IPPO"), ("TupleOfMaskedTrees", "MADDPG")]
)
def test_it_trains_resumes_evaluates_exports_and_acts(name: str, algorithm: str, tmp_path: Path) -> None:
    job = configuration(tmp_path, name, algorithm, TEXTS[name])
    trained = covey("train", job, "--runs", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["state"] == "complete" and result["env_steps"] == 256
    assert set(result["best_per_agent"].values()) == {10.0}, "each agent earns 1 in each of ten steps"
    run = result["run_dir"]
    resumed = covey("train", "--resume", run, "--set", "training.max_steps=192", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["env_steps"] == 384
    evaluated = json.loads(covey("evaluate", run, "--episodes", "3", "--json").stdout)
    assert evaluated["per_agent"] == dict.fromkeys(("a_0", "a_1"), 10.0)
    assert covey("export", run, "--out", tmp_path / "policy").returncode == 0
    policy = library.load_policy(tmp_path / "policy")
    env = KINDS[name]()
    seen, _ = env.reset()
    while env.agents:
        seen, *_ = env.step(policy.act(seen))
    batch = {a: _stacked([seen[a], seen[a]]) for a in seen}
    assert {a: chosen.shape for a, chosen in policy.act(batch).items()} == {"a_0": (2,), "a_1": (2,)}
    with pytest.raises(SpaceError, match=r"without|unknown"):
        policy.act({"a_0": {"image": 1}})


def _stacked(values: list) -> object:  # type: ignore[type-arg]
    if isinstance(values[0], dict):
        return {key: _stacked([v[key] for v in values]) for key in values[0]}
    if isinstance(values[0], tuple):
        return tuple(_stacked(list(part)) for part in zip(*values, strict=True))
    return np.stack(values) if not isinstance(values[0], str) else values


@pytest.mark.parametrize(
    ("ignored", "says"),
    [
        ([], "mission: space Text(1, 20"),
        (["misson"], "environment.ignore_observations: 'misson', expected names of parts of observations"),
    ],
)
def test_what_cannot_be_read_or_left_out_is_named(ignored: list[str], says: str, tmp_path: Path) -> None:
    refused = covey("train", configuration(tmp_path, "Trees", "IPPO", ignored), "--runs", tmp_path)
    assert refused.returncode and says in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("algorithm", ["IPPO", "MATD3"])
def test_actions_are_dictionaries_on_the_whole_way(algorithm: str, tmp_path: Path) -> None:
    trained = covey("train", configuration(tmp_path, "TreeActions", algorithm, []), "--runs", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["state"] == "complete" and result["env_steps"] == 256
    assert set(result["best_per_agent"].values()) == {10.0}, "nothing illegal was done, or episodes would be cut"
    assert covey("export", result["run_dir"], "--out", tmp_path / "policy").returncode == 0
    policy = library.load_policy(tmp_path / "policy")
    env = TreeActions()
    seen, infos = env.reset()
    for deterministic in (True, False) * 5:
        masks = {a: info["action_mask"] for a, info in infos.items()}
        chosen = policy.act(seen, masks, deterministic=deterministic)
        seen, _, _, _, infos = env.step(chosen)
    assert not env.agents
