"""A run's curves, settings, result and best policy are at W&B, MLflow and trackio, by these packages themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import write_config

PACKAGES = ("mlflow-skinny==3.17.2", "trackio==0.43.0", "wandb==0.31.0")

READ_MLFLOW = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient()
run, = client.search_runs([client.get_experiment_by_name("herds").experiment_id])
told = {"metrics": run.data.metrics, "params": run.data.params, "tags": run.data.tags, "status": run.info.status}
told["best"] = [f.path for f in client.list_artifacts(run.info.run_id, "best")]
json.dump(told, sys.stdout)
"""


@pytest.mark.engines
@pytest.mark.timeout(900)
def test_three_services_have_what_a_run_came_to(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    install = ["-m", "pip", "install", "--quiet", "--target", str(packages), *PACKAGES]
    subprocess.run([sys.executable, *install], check=True)
    # Behind what is installed here, of which the packages bring other versions.
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.path.append({str(packages)!r})")
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": str(tmp_path / "mlruns"),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "curves go to the run directory only" not in done.stderr
        return done.stdout

    job = write_config(
        tmp_path / "job.yaml",
        training={"max_steps": 600, "evo_steps": 300, "confirm_episodes": 20},
        logging={"mlflow": True, "trackio": True, "wandb": True, "project": "herds", "tags": ["quick"]},
    )
    result = json.loads(run("-m", "covey", "train", str(job), "--runs", str(tmp_path), "--json").splitlines()[-1])

    mlflow: dict[str, Any] = json.loads(run("-c", READ_MLFLOW))
    assert mlflow["status"] == "FINISHED"
    assert mlflow["metrics"]["fitness/confirmed"] == mlflow["metrics"]["result/best_fitness"] == result["best_fitness"]
    assert mlflow["params"]["algorithm.name"] == "MATD3" and mlflow["params"]["training.pop_size"] == "4"
    assert mlflow["tags"]["group"] == "job" and {"MATD3", "quick"} <= mlflow["tags"].keys()
    assert "best/policy.json" in mlflow["best"]

    read = "import json, sqlite3, sys; rows = sqlite3.connect(sys.argv[1]).execute('select metrics from metrics'); "
    told = run("-c", read + "print(json.dumps([json.loads(r) for r, in rows]))", str(tmp_path / "trackio" / "herds.db"))
    assert [p["fitness/confirmed"] for p in json.loads(told) if "fitness/confirmed" in p] == [result["best_fitness"]]

    (offline,) = Path(result["run_dir"]).glob("wandb/offline-run-*/*.wandb")
    assert b"fitness/confirmed" in offline.read_bytes()
