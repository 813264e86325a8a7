"""A learner that starts says once if its environment is also there as arrays."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import write_config

from covey.config import load_config
from covey.run.new_run import new_run
from covey_server.app import LearnerProcess


@pytest.mark.parametrize(
    ("environment", "offered"),
    [
        ({"name": "mpe2.simple_spread_v3", "config": {"N": 2}}, "covey.envs.mpe.simple_spread_v3 is the same"),
        ({"name": "pettingzoo.mpe.simple_crypto_v3"}, "covey.envs.mpe.simple_crypto_v3 is the same"),
        ({"name": "mpe2.simple_spread_v3", "config": {"benchmark_data": True}}, None),
        ({"name": "covey.envs.mpe.simple_spread_v3"}, None),
        ({"name": "tests.support.environments:counter"}, None),
    ],
)
def test_the_same_environment_as_arrays_is_offered_in_one_line(
    environment: dict[str, Any], offered: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "covey.learner")
    config = load_config(write_config(tmp_path / "job.yaml", environment=environment))
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    try:
        process.start()
    finally:
        process.stop()
    told = [m for m in caplog.messages if m.startswith("environment.name:")]
    assert len(told) == (offered is not None) and all(offered in m for m in told if offered)
