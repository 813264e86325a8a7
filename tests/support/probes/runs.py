"""Runs of probes for the tests of a module: all of them at once, two at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.support.probes.errors import ACTION_TOLERANCE, Case, action_errors, value_errors, value_tolerance
from tests.support.probes.learned import Learned
from tests.support.probes.trainers import Trainers

from covey.config import load_config
from covey.envs import load_environment, read_spaces
from covey_server.algorithms import build_networks
from covey_server.member import Member

Configure = Callable[[Path, Case], Path]
Runs = dict[str, Future[Path]]
"""Run directories by case."""


def probe_runs(
    cases: Sequence[Case],
    configure: Configure,
    trainers: Trainers,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Runs]:
    """Start the runs of the cases that are asked for; for a fixture of a module's."""

    def train(case: Case) -> Path:
        folder = tmp_path_factory.mktemp("probe")
        result = trainers.train(configure(folder / "probe.yaml", case))
        assert result["state"] == "complete" and result["env_steps"] == 2 * case.steps
        return Path(str(result["run_dir"]))

    asked = [item.name for item in request.session.items if item.path == request.path]
    with ThreadPoolExecutor(2) as pool:
        yield {str(c): pool.submit(train, c) for c in cases if any(f"[{c}]" in name for name in asked)}
        pool.shutdown(cancel_futures=True)


def check_learned(run: Path, case: Case) -> None:
    """Both members know what is known."""
    members = Learned.everybody(run)
    assert len(members) == 2
    for learned in members:
        values, actions = max(value_errors(learned, case)), max(action_errors(learned, case), default=0.0)
        assert values < value_tolerance(learned, case), f"a value is {values:.3f} off; actions {actions:.3f}"
        assert actions < ACTION_TOLERANCE, f"an action is {actions:.3f} off; values {values:.3f}"


def check_untrained(config: Path, case: Case) -> None:
    """Members that have not learned anything are far from what is known."""
    settings = load_config(config)
    spaces = read_spaces(load_environment(settings.environment.name, settings.environment.config)())
    for seed in range(5):
        networks = build_networks(settings, spaces, np.random.default_rng(seed))
        member = Member(member_id=0, networks=networks, hyperparameters=settings.algorithm.initial_hyperparameters())
        learned = Learned.of(member, spaces, settings.algorithm)
        far = max(value_errors(learned, case)) > 1.5 * value_tolerance(learned, case)
        assert far or max(action_errors(learned, case), default=0.0) > 1.5 * ACTION_TOLERANCE
