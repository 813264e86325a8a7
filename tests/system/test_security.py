"""Two machines by the commands that docs/security.md has: certificates, tokens, a learner for others, an actor."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT, covey, covey_json, free_port, processes, until, write_config


def test_a_run_over_tls_with_tokens_and_client_certificates(tmp_path: Path) -> None:
    certs, config = tmp_path / "certs", write_config(tmp_path / "c.yaml")
    assert covey("certs", "init", "--out", certs, "--actor", "far").returncode == 0
    port = free_port()
    bind = ("--bind", f"0.0.0.0:{port}", "--runs", tmp_path / "runs")
    with processes() as start:
        learner = start(
            *(tmp_path / "learner.log", "learner", config, *bind, "--tls", certs, "--client-certificates"),
        )
        certified = ("--ca", certs / "ca.crt", "--cert", certs / "far.crt", "--key", certs / "far.key")
        there = ("--learner", f"localhost:{port}", *certified)
        viewer = (*there, "--token-file", certs / "viewer.token")
        until(lambda: covey("status", *viewer).returncode == 0, what="the learner answers")
        refused = covey("pause", *viewer)
        assert refused.returncode == 6 and "a token of role viewer may not call Pause" in refused.stderr
        refused = covey("status", *there)
        assert refused.returncode == 6 and "no token came with the call; give --token-file FILE" in refused.stderr
        actor = ("actor", *there, "--token-file", certs / "actor.token")
        nameless = covey(*actor, "--name", "near")
        assert nameless.returncode == 6 and "start it with --name far" in nameless.stderr
        attached = start(tmp_path / "actor.log", *actor, "--name", "far", "--workers", "1")
        assert attached.wait() == 0, attached.output()
        assert learner.wait() == 0, learner.output()
        result = json.loads(learner.output().strip().splitlines()[-1])
        assert result["state"] == "complete" and result["env_steps"] == 4800


def test_what_is_not_encrypted_is_not_served_to_other_machines(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", learner={"bind": f"0.0.0.0:{free_port()}"})
    refused = covey("learner", config, "--runs", tmp_path / "runs")
    assert refused.returncode == 2 and "other machines reach it, expected TLS and tokens" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_training_here_needs_no_setup_and_works_with_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is set for other learners does not get in the way of local actors.
    monkeypatch.setitem(ENVIRONMENT, "COVEY_CA", str(tmp_path / "elsewhere.crt"))
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"viewer a-token-{time.time_ns()}\n")
    config = write_config(tmp_path / "c.yaml", learner={"tokens": str(tokens)})
    assert covey_json("train", config, "--json", "--runs", tmp_path / "runs")["env_steps"] == 4800
