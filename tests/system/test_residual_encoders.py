"""`covey train` with residual encoders: they evolve, and act without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.processes import ENVIRONMENT, covey, covey_json, write_config

IPPO = {"name": "IPPO", "learn_step": 48, "batch_size": 32}
MATD3 = {"name": "MATD3", "learn_step": 24, "batch_size": 16}
RESNET = {"kind": "resnet", "channel_size": 4, "stride_size": 2, "num_blocks": 1, "scale_factor": 2}
SIMBA = {"kind": "simba", "hidden_size": 8, "num_blocks": 1, "min_mlp_nodes": 4}
RUNS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "resnet, IPPO": (IPPO, "tests.support.catching:catching", RESNET),
    "resnet, MATD3": (MATD3, "tests.support.catching:catching", RESNET),
    "simba, MATD3": (MATD3, "mpe2.simple_speaker_listener_v4", SIMBA),
}


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_with_residual_blocks_trains_and_is_exported(name: str, tmp_path: Path) -> None:
    algorithm, environment, encoder = RUNS[name]
    job = write_config(
        tmp_path / "job.yaml",
        algorithm=algorithm,
        environment={"name": environment, "num_envs": 2, "config": {}},
        mutation={"probabilities": {"no_mut": 0, "arch_mut": 1, "params_mut": 0, "rl_hp_mut": 0, "new_layer": 0.5}},
        training={"max_steps": 192, "evo_steps": 96, "pop_size": 2, "eval_steps": 20, "confirm_episodes": 2},
        actors={"local": 1},
    )
    job.write_text(yaml.safe_dump(yaml.safe_load(job.read_text()) | {"network": {"encoder_config": encoder}}))
    result = covey_json("train", job, "--runs", tmp_path, "--json")
    assert result["state"] == "complete" and result["env_steps"] == 384
    for member in covey_json("members", result["run_dir"], "--json")["members"]:
        for own in member["architecture"].values():
            assert {its["kind"] for its in own["encoders"].values()} == {encoder["kind"]}
    exported = covey("export", result["run_dir"], "--out", tmp_path / "policy")
    assert exported.returncode == 0, exported.stderr
    code = (
        "import sys, covey, numpy as np\n"
        f"policy = covey.load_policy({str(tmp_path / 'policy')!r})\n"
        "seen = {a.agent_id: np.zeros(a.observation.shape, a.observation.dtype) for a in policy.spaces.agents}\n"
        "assert policy.act(seen).keys() == seen.keys() and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=True, timeout=60)
