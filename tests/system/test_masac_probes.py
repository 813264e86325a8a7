"""MASAC, proved where values and best policies are known: `covey train`, then what members think and do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.probes.answers import ENDS, RHYTHMS, SIMPLE, TEAM, TWINS
from tests.support.probes.configs import masac_config
from tests.support.probes.errors import Case
from tests.support.probes.runs import Runs, check_learned, check_untrained, probe_runs
from tests.support.probes.trainers import Trainers

CASES = [Case(known, "MASAC", "Box") for known in (*SIMPLE, *ENDS, TEAM, TWINS, RHYTHMS)]


@pytest.fixture(scope="module")
def runs(
    trainers: Trainers, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """The runs of all cases that are asked for."""
    yield from probe_runs(CASES, masac_config, trainers, request, tmp_path_factory)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_training_finds_what_is_known(runs: Runs, case: Case) -> None:
    check_learned(runs[str(case)].result(), case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_untrained_networks_do_not_pass(tmp_path: Path, case: Case) -> None:
    check_untrained(masac_config(tmp_path / "untrained.yaml", case), case)
