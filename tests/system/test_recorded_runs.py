"""Runs that earlier versions of covey recorded go on: one for each change of what a checkpoint's state looks like.

`tests/support/recorded_runs/format_N_NAME.tar.gz` holds a run directory with checkpoints of format N whose learner was
killed in its third generation (`training.max_steps` 3000, `evo_steps` 500, two members).
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from tests.support.processes import ROOT, covey, covey_json

from covey.run.checkpoint_format import MANIFEST, checkpoint_paths
from covey.run.state_upgrades import FORMAT

RECORDED = sorted((ROOT / "tests" / "support" / "recorded_runs").glob("format_*.tar.gz"))


@pytest.fixture(params=RECORDED, ids=lambda path: path.name.removesuffix(".tar.gz"))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    archive: Path = request.param
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (found,) = tmp_path.iterdir()
    return found


def test_every_format_that_can_be_read_was_recorded() -> None:
    formats = {int(path.name.split("_")[1]) for path in RECORDED}
    assert formats == set(range(2, FORMAT + 1))


def test_it_goes_on_to_its_end(run: Path) -> None:
    before = covey_json("evaluate", run, "--member", member_of(run), "--episodes", 4, "--json")
    assert before["episodes"] == 4
    result = covey_json("train", "--resume", run, "--json")
    assert (result["state"], result["env_steps"], result["generations"]) == ("complete", 6000, 6)
    members = covey_json("members", run, "--json")["members"]
    assert [m["env_steps"] for m in members] == [3000, 3000]
    lineage = covey_json("lineage", run, "--json")["members"]
    assert [m["member_id"] for m in lineage] == list(range(len(lineage)))
    newest = json.loads((checkpoint_paths(run / "checkpoints")[-1] / MANIFEST).read_text())
    assert newest["format"] == FORMAT


def member_of(run: Path) -> int:
    """Somebody who lives in the newest checkpoint."""
    state = json.loads((checkpoint_paths(run / "checkpoints")[-1] / "state.json").read_text())
    return int(state["members"][0]["member_id"])


def test_a_format_that_cannot_be_read_is_one_sentence(run: Path) -> None:
    for path in checkpoint_paths(run / "checkpoints"):
        manifest = json.loads((path / MANIFEST).read_text())
        (path / MANIFEST).write_text(json.dumps({**manifest, "format": 1}))
    for arguments in (("train", "--resume", run), ("evaluate", run)):
        done = covey(*arguments)
        assert done.returncode == 7
        assert f"format 1, expected 2 to {FORMAT}; resume with the version of covey that wrote it" in done.stderr
