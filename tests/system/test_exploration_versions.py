"""Runs of epsilon-greedy exploration or squashed Gaussians need protocol version 2; others serve older actors."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.processes import write_config

from covey.config import load_config
from covey.errors import RefusedError
from covey.run.new_run import new_run
from covey.v1.actor_service_pb2 import DescribeRequest, JoinRequest
from covey_server.app import LearnerProcess

OLDEST = [("MATD3", 1), ("IPPO", 1), ("VDN", 2), ("QMIX", 2), ("PQN", 2), ("MASAC", 2)]


@pytest.mark.parametrize(("algorithm", "oldest"), OLDEST)
def test_older_actors_are_refused_where_they_would_sample_values(tmp_path: Path, algorithm: str, oldest: int) -> None:
    config = load_config(write_config(tmp_path / "job.yaml", algorithm={"name": algorithm}))
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    process.start()
    try:
        for version in (1, 2):
            asked = DescribeRequest(protocol_version=version, oldest_protocol_version=1)
            if version >= oldest:
                assert process.attendance.describe(asked).protocol_version == version
                continue
            refused = f"in a run of {algorithm}: the actor speaks protocol version.*{version}, the learner version 2"
            with pytest.raises(RefusedError, match=refused + ".* newer covey on the actor's side"):
                process.attendance.describe(asked)
            with pytest.raises(RefusedError, match=f"'old', in a run of {algorithm}: the actor speaks"):
                process.attendance.join(JoinRequest(protocol_version=version, actor_id="old"))
    finally:
        process.stop()
