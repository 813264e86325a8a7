"""A short chaos run, and that the comparison at its end sees what it is there to see."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chaos.faults import damage_newest_checkpoint
from tests.chaos.history import History, Taken
from tests.chaos.ledger import Differences, compare_promises, compare_recovery
from tests.chaos.notes import read_notes
from tests.chaos.world import STANDSTILL_S, World, world
from tests.support.processes import ENVIRONMENT, ROOT


def test_a_run_in_trouble_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--minutes", "0.5", "--pause", "0.2", "0.8"]
    done = subprocess.run(
        [*command, "--keep", tmp_path], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = json.loads(done.stdout.splitlines()[-1])
    assert all(report["families"].values()), "faults of every family hit"
    # How much was promised in half a minute says how busy the machine is.
    assert report["learner_kills"] > 0 and report["promised_durable"] > 0 and report["updates"] > 0


def test_a_generation_that_only_a_damaged_checkpoint_has_is_played_again(tmp_path: Path) -> None:
    with world(tmp_path, seed=0, actors=2) as w:
        w.start_learner()

        def second_generation_is_played() -> bool:
            history = w.history
            return history is not None and any(history.issued[t.order_id].generation for t in history.taken if t.steps)

        assert w.step_until(second_generation_is_played, STANDSTILL_S), w.learner_says()
        w.end_learner()
    damage_newest_checkpoint(w)
    found = Differences()
    assert w.history is not None and any(t.superseded for t in w.history.taken)
    compare_recovery(w.history, w.run, tmp_path, found)
    assert found.found == []


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run whose learner was killed, and what was seen of it."""
    with world(tmp_path_factory.mktemp("killed"), seed=0, actors=2) as made:
        made.start_learner()
        assert made.step_until(lambda: made.serves, STANDSTILL_S), made.learner_says()
        # Enough that some is durable, too little for a segment to be deleted.
        made.step_until(lambda: sum(n.durable for n in read_notes(made.notes)) > 20, STANDSTILL_S)
        made.end_learner()
    return made


def compared(killed: World, scratch: Path, change: Callable[[History, list[Taken]], object]) -> Differences:
    """Compare the run that was killed with its history, after a change of that."""
    history, found = copy.deepcopy(killed.history), Differences()
    assert history is not None
    change(history, [t for t in history.taken if t.steps and not t.refused])
    compare_promises(history, killed.notes, found)
    compare_recovery(history, killed.run, scratch, found)
    return found


def test_equal_sides_are_equal(killed: World, tmp_path: Path) -> None:
    found = compared(killed, tmp_path, lambda history, taken: None)
    assert found.found == [] and found.promised > 20 and found.taken > 20


def test_what_only_one_side_has_is_found(killed: World, tmp_path: Path) -> None:
    found = compared(killed, tmp_path, lambda history, taken: history.entries.remove(taken[0]))
    assert len(found.lost) == 1 and found.content and found.steps


def test_what_was_taken_in_twice_is_found(killed: World, tmp_path: Path) -> None:
    found = compared(killed, tmp_path, lambda history, taken: history.entries.append(taken[0]))
    assert len(found.doubled) == 2, "its number, and its order"


def test_another_content_is_found(killed: World, tmp_path: Path) -> None:
    found = compared(killed, tmp_path, lambda history, taken: setattr(taken[0], "sha", "0" * 64))
    assert len(found.content) == 1 and not found.lost


def test_a_step_more_or_less_is_found(killed: World, tmp_path: Path) -> None:
    found = compared(killed, tmp_path, lambda history, taken: taken[0].steps.update(Counter([*taken[0].steps][:1])))
    assert len(found.steps) == 2, "the member's, and the population's"
