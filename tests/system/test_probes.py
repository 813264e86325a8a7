"""MADDPG and MATD3, proved where values and best policies are known: `covey train`, then what members think and do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.probes.answers import ENDS, MIXED, SIMPLE, TEAM, TEAM_APART, TWINS
from tests.support.probes.configs import off_policy_config
from tests.support.probes.errors import Case
from tests.support.probes.runs import Runs, check_learned, check_untrained, probe_runs
from tests.support.probes.trainers import Trainers

SEVERAL = ("MultiDiscrete", "MultiBinary")
POLICIES = [known for known in SIMPLE if known.wanted is not None]

# Each probe with Discrete and Box actions and with both algorithms, in turns; policies of several choices besides.
CASES = [
    Case(known, algorithm, kind)
    for i, known in enumerate((*SIMPLE, *ENDS, TEAM, TWINS, TEAM_APART, MIXED))
    for algorithm, kind in zip(
        ("MADDPG", "MATD3"), ("Discrete", "Box") if i % 2 == 0 else ("Box", "Discrete"), strict=True
    )
] + [
    Case(known, algorithm, kind)
    for i, known in enumerate(POLICIES)
    for algorithm, kind in zip(("MADDPG", "MATD3"), SEVERAL if i % 2 == 0 else SEVERAL[::-1], strict=True)
]


@pytest.fixture(scope="module")
def runs(
    trainers: Trainers, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """The runs of all cases that are asked for."""
    yield from probe_runs(CASES, off_policy_config, trainers, request, tmp_path_factory)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_training_finds_what_is_known(runs: Runs, case: Case) -> None:
    check_learned(runs[str(case)].result(), case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_untrained_networks_do_not_pass(tmp_path: Path, case: Case) -> None:
    check_untrained(off_policy_config(tmp_path / "untrained.yaml", case), case)
