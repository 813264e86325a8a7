"""`--deterministic`: the same seed gives the same run, bit for bit, evolution included; another seed another one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.processes import covey_json, write_config

from covey.run.checkpoint_format import read_newest
from covey.run.directory import RunDirectory

SEED = 3
"""One with which all kinds of mutation happen."""

KINDS = {"none", "architecture", "parameters", "activation", "rl_hp"}

# What a checkpoint says about the clock, the disk and the process; everything else must be equal.
OF_THIS_RUN = {"sessions", "totals"}
OF_THIS_JOURNAL = {"journal", "needed_from"}
"""Of the part "run": positions, which times of arrival decide."""


@dataclass(frozen=True)
class Outcome:
    """The newest checkpoint of a finished run, and its lineage."""

    state: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    result: dict[str, Any]
    lineage: list[dict[str, Any]]


def outcome(folder: Path, config: Path, seed: int) -> Outcome:
    result = covey_json(
        *("train", config, "--deterministic", "--runs", folder, "--json", "--set", f"training.seed={seed}")
    )
    _, state, tensors = read_newest(RunDirectory.open(Path(result["run_dir"])).checkpoints)
    return Outcome(state, tensors, result, covey_json("lineage", result["run_dir"], "--json")["members"])


@pytest.fixture(scope="module", params=["MATD3-speaker_listener", "MADDPG-mixed_kinds"])
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Two runs of one seed, then one of another."""
    algorithm, _, environment = request.param.partition("-")
    folder = tmp_path_factory.mktemp(environment)
    sections: dict[str, dict[str, Any]] = {}
    if environment == "mixed_kinds":
        sections["environment"] = {
            "name": "tests.support.probes.simultaneous:mixed_kinds",
            "config": {"kind": "Discrete"},
        }
    config = write_config(
        folder / "same.yaml",
        algorithm={"name": algorithm, "learn_step": 10, "batch_size": 32},
        mutation={
            "probabilities": {
                "no_mut": 1,
                "arch_mut": 1,
                "new_layer": 0.5,
                "params_mut": 1,
                "act_mut": 1,
                "rl_hp_mut": 1,
            }
        },
        # Two generations whose members were selected and mutated, after the one that was mutated before training.
        training={"max_steps": 600, "evo_steps": 200, "pop_size": 5, "random_steps": 300, "confirm_episodes": 4},
        **sections,
    )
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda seed: outcome(folder, config, seed), (SEED, SEED, SEED + 1)))


def test_the_runs_went_through_all_kinds_of_mutation(outcomes: list[Outcome]) -> None:
    assert {m["mutation"] for m in outcomes[0].lineage} >= KINDS
    assert outcomes[0].result["generations"] == 3


def test_equal_seeds_give_equal_members_bit_for_bit(outcomes: list[Outcome]) -> None:
    one, again, _ = outcomes
    assert one.tensors.keys() == again.tensors.keys()
    parts = {name.split("/")[3] for name in one.tensors}
    assert parts == {"params", "target", "first_moment", "second_moment"}
    for name, tensor in one.tensors.items():
        assert tensor.dtype == again.tensors[name].dtype
        assert np.array_equal(tensor, again.tensors[name]), name


def test_equal_seeds_give_equal_lineage_fitness_and_ledgers(outcomes: list[Outcome]) -> None:
    one, again, _ = outcomes
    assert one.state.keys() == again.state.keys()
    for key in one.state["run"].keys() - OF_THIS_JOURNAL:
        assert one.state["run"][key] == again.state["run"][key], key
    for key in one.state.keys() - OF_THIS_RUN - {"run"}:
        assert json.dumps(one.state[key]) == json.dumps(again.state[key]), key
    assert one.lineage == again.lineage
    for key in ("env_steps", "eval_env_steps", "updates", "best_member", "best_fitness", "best_fitness_stderr"):
        assert one.result[key] == again.result[key], key
    for key in ("env_steps", "eval_env_steps", "updates", "passes", "members_in_passes", "staleness_updates"):
        assert one.state["totals"][key] == again.state["totals"][key], key


def test_another_seed_gives_other_members(outcomes: list[Outcome]) -> None:
    one, _, other = outcomes
    assert one.lineage != other.lineage
    same = [n for n in one.tensors.keys() & other.tensors.keys() if n.endswith("weight") and "/params/" in n]
    assert not any(np.array_equal(one.tensors[n], other.tensors[n]) for n in same)
