"""IPPO, proved where values and best policies are known: `covey train`, then what members think and do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.probes.answers import ENDS, MIXED, SIMPLE, TEAM_APART, TEAM_INDICATED, TEAM_UNTOLD, TWINS
from tests.support.probes.configs import ippo_config
from tests.support.probes.environment import KINDS
from tests.support.probes.errors import Case
from tests.support.probes.runs import Runs, check_learned, check_untrained, probe_runs
from tests.support.probes.trainers import Trainers

POLICIES = [known for known in SIMPLE if known.wanted is not None]
VALUES = [known for known in (*SIMPLE, *ENDS) if known not in POLICIES]
# Critics that predict in units of their own.
IN_UNITS = [replace(known, algorithm={"normalize_values": True}) for known in VALUES]

# Policies with every kind of action; the kind matters little to values.
CASES = [
    *(Case(known, "IPPO", kind) for known in POLICIES for kind in KINDS),
    *(Case(known, "IPPO", KINDS[i % len(KINDS)]) for i, known in enumerate(VALUES)),
    *(Case(known, "IPPO", "Discrete") for known in IN_UNITS),
    *(Case(TEAM_UNTOLD, "IPPO", kind) for kind in ("Discrete", "MultiDiscrete")),
    *(Case(known, "IPPO", "Discrete") for known in (TEAM_APART, TEAM_INDICATED, TWINS, MIXED)),
    *(Case(known, "IPPO", "Box") for known in (TEAM_INDICATED, TWINS)),
]


@pytest.fixture(scope="module")
def runs(
    trainers: Trainers, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """The runs of all cases that are asked for."""
    yield from probe_runs(CASES, ippo_config, trainers, request, tmp_path_factory)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_training_finds_what_is_known(runs: Runs, case: Case) -> None:
    check_learned(runs[str(case)].result(), case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_untrained_networks_do_not_pass(tmp_path: Path, case: Case) -> None:
    check_untrained(ippo_config(tmp_path / "untrained.yaml", case), case)
