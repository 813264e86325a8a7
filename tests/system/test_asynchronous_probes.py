"""Agents that may not do everything, are forced, or act at different times; values and best policies are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support.probes.answers import RHYTHMS, TURNS, forced, masks
from tests.support.probes.configs import ippo_config, off_policy_config
from tests.support.probes.environment import place
from tests.support.probes.errors import Case
from tests.support.probes.runs import Runs, check_learned, check_untrained, probe_runs
from tests.support.probes.trainers import Trainers
from tests.support.processes import covey_json

from covey.rows import Active, Columns, RowKind, RowSchema
from covey.run.directory import RunDirectory
from covey.run.trained import TrainedMember
from covey.spaces import Space, choices
from covey.v1.fragment_pb2 import ReceivedFragment
from covey_server.storage.journal import Journal, Kind

MASKS = [
    Case(masks(in_infos=False, told=False), "IPPO", "Discrete"),
    Case(masks(in_infos=True, told=False), "IPPO", "MultiDiscrete"),
    Case(masks(in_infos=False, told=True), "MADDPG", "Discrete"),
    Case(masks(in_infos=True, told=True), "MATD3", "Discrete"),
    Case(masks(in_infos=False, told=True), "MATD3", "MultiDiscrete"),
]
FORCED = [
    Case(forced(paid=0.0, told=False), "IPPO", "Box"),
    # What is forced pays best: who learned from it would do it freely, too.
    Case(forced(paid=1.0, told=False), "IPPO", "Discrete"),
    Case(forced(paid=0.0, told=True), "MADDPG", "Discrete"),
    Case(forced(paid=0.0, told=True), "MATD3", "Box"),
]
RHYTHM = [
    Case(RHYTHMS, "IPPO", "Box"),
    Case(RHYTHMS, "IPPO", "Discrete"),
    Case(RHYTHMS, "MADDPG", "Discrete"),
    Case(RHYTHMS, "MATD3", "Box"),
    Case(TURNS, "IPPO", "Discrete"),
    Case(TURNS, "IPPO", "Box"),
    Case(TURNS, "MADDPG", "Box"),
    Case(TURNS, "MATD3", "Discrete"),
]
CASES = [*MASKS, *FORCED, *RHYTHM]


def configure(path: Path, case: Case) -> Path:
    """As its algorithm learns probes."""
    return (ippo_config if case.algorithm == "IPPO" else off_policy_config)(path, case)


@pytest.fixture(scope="module")
def runs(
    trainers: Trainers, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """The runs of all cases that are asked for."""
    yield from probe_runs(CASES, configure, trainers, request, tmp_path_factory)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_training_finds_what_is_known(runs: Runs, case: Case) -> None:
    check_learned(runs[str(case)].result(), case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_untrained_networks_do_not_pass(tmp_path: Path, case: Case) -> None:
    check_untrained(configure(tmp_path / "untrained.yaml", case), case)


@pytest.mark.parametrize("case", MASKS, ids=str)
def test_nothing_illegal_was_ever_done(runs: Runs, case: Case) -> None:
    run = runs[str(case)].result()
    # The environment raises if anything illegal is done, in evaluation as well.
    assert "environment_fault" not in covey_json("status", run, "--json")["counters"]
    rows = journalled(run)
    acted = (rows["kind"] == RowKind.STEP) & (rows["agent/active"][:, 0] == Active.CHOSE)
    assert acted.sum() == 2 * case.steps
    mask, action = rows["agent/action_mask"][acted, 0], rows["agent/action"][acted, 0].reshape(2 * case.steps, -1)
    ends = np.cumsum(choices(space_of(run, "agent_0")))
    assert np.take_along_axis(mask, action + np.array([0, *ends[:-1]]), 1).all()
    restricted = mask[:, ends[0] - 1] == 0
    assert restricted.mean() == pytest.approx(0.25, abs=0.02)
    assert (rows["agent/observation"][acted, 0, 0][restricted] == 1).all()


@pytest.mark.parametrize("case", FORCED, ids=str)
def test_what_was_forced_is_told_apart(runs: Runs, case: Case) -> None:
    run = runs[str(case)].result()
    assert "environment_fault" not in covey_json("status", run, "--json")["counters"]
    rows = journalled(run)
    step = rows["kind"] == RowKind.STEP
    forced = step & (rows["agent/active"][:, 0] == Active.FORCED)
    assert forced.sum() == pytest.approx(2 * case.steps / 4, rel=0.05)
    assert (rows["agent/observation"][forced, 0, 0] == 1).all()
    space = space_of(run, "agent_0")
    assert all(place(space, action) == 0 for action in rows["agent/action"][forced, 0])
    assert (rows["other_agent/active"][step] == Active.CHOSE).all()


def journalled(run: Path) -> Columns:
    """All rows that a run's actors have sent."""
    directory = RunDirectory.open(run)
    schema = RowSchema.of(TrainedMember.read(directory).spaces)
    journal = Journal.open(directory.journal, 1 << 30)
    decoded = []
    for _, kind, payload in journal.read():
        if kind == Kind.FRAGMENT:
            fragment = ReceivedFragment.FromString(payload).fragment
            count = sum(s.rows + s.lead_in_rows for s in fragment.streams)
            if count:  # evaluations send no rows
                decoded.append(schema.decode(fragment.blob, count, fragment.raw_bytes))
    journal.close()
    return {c.name: np.concatenate([d[c.name] for d in decoded]) for c in schema.columns}


def space_of(run: Path, agent: str) -> Space:
    """The agent's actions."""
    spaces = TrainedMember.read(RunDirectory.open(run)).spaces
    return spaces.agents[spaces.agent_ids.index(agent)].action
