"""`covey check-actor` on actors that keep all rules, and on actors that break some."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from tests.support.broken_client import FAULTS
from tests.support.processes import PATIENCE_S, covey, started

from covey_server.compliance.rules import RULES

OWN = [sys.executable, "-m", "covey", "actor", "--learner", "{address}"]
COUNTER = ["--env", "tests.support.environments:counter"]
SINCE_VERSION_2 = {"memory", "states", "normalized", "epsilon"}
PIXELS = "tests.support.catching:catching"
MOVING = "tests.support.moving:moving"
PLAIN = set(RULES) - {"context"}
"""The rules that are tried where policies read single observations."""


def verdicts(*arguments: object, wait_s: float = PATIENCE_S) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what is told of each rule."""
    done = covey("check-actor", "--json", "--wait", wait_s, *arguments)
    assert done.stdout, done.stderr
    return done.returncode, {told["rule"]: told for told in json.loads(done.stdout)["rules"]}


def of(told: dict[str, dict[str, Any]], verdict: str) -> set[str]:
    return {rule for rule, found in told.items() if found["verdict"] == verdict}


@pytest.mark.parametrize(
    "environment",
    [
        [],
        ["--env", "pettingzoo.classic.tictactoe_v3"],
        [*COUNTER, "--config", "walker_dies_at=3"],
        ["--env", PIXELS],
    ],
)
def test_coveys_own_actor_keeps_all_rules(environment: list[str]) -> None:
    code, told = verdicts(*environment, "--", *OWN, "--allow-env", COUNTER[1], "--allow-env", PIXELS)
    unseen = {"normalized"} if PIXELS in environment else set()  # images are not normalised
    assert of(told, "holds") == PLAIN - unseen == set(told), told
    assert code == 0


@pytest.mark.parametrize("shape", ["hw", "tree"])
def test_coveys_own_actor_keeps_the_rules_of_frame_stacks(shape: str) -> None:
    arguments = ["--env", MOVING, "--config", f"shape={shape}", "--frame-stack", 3]
    code, told = verdicts(*arguments, "--", *OWN, "--allow-env", MOVING)
    unseen = {"normalized"} if shape == "hw" else set()
    assert of(told, "holds") == set(RULES) - unseen == set(told), told
    assert code == 0


def test_an_actor_without_context_rows_is_named() -> None:
    forgetful = [sys.executable, "-m", "tests.support.forgetful_actor", *OWN[4:], "--allow-env", MOVING]
    code, told = verdicts("--env", MOVING, "--frame-stack", 3, "--", *forgetful)
    # What it says its policies did is not what they do on the stacks that its rows make.
    assert {"context"} <= of(told, "broken") <= {"context", "actions", "layers", "epsilon"}, told
    assert "context rows of slot" in told["context"]["expected"] and code == 1


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("reads_raw", "normalized"),
        ("reads_unclipped", "normalized"),
        ("samples_values", "epsilon"),
        ("never_explores", "epsilon"),
    ],
)
def test_an_actor_whose_policies_act_otherwise_is_named(fault: str, rule: str) -> None:
    spoilt = [sys.executable, "-m", "tests.support.spoilt_actor", fault, *OWN[4:], "--allow-env", COUNTER[1]]
    code, told = verdicts(*COUNTER, "--", *spoilt)
    assert of(told, "broken") == {rule}, told
    assert told[rule]["expected"] and told[rule]["got"] and code == 1


def test_so_does_an_actor_with_nothing_of_covey_in_it() -> None:
    code, told = verdicts(*COUNTER, "--", sys.executable, "-m", "tests.support.version_1.client", "{address}")
    assert of(told, "holds") == PLAIN - SINCE_VERSION_2 == set(told), told
    assert code == 0


@pytest.mark.parametrize(
    ("faults", "follows", "wait_s"),
    [
        # Six at once, each of which is named, and nothing else.
        (
            "a_step_less ignores_restart other_evaluation_seeds plays_at_random says_another_player ignores_drain",
            {"seeds"},
            20,
        ),
        ("resends_refused keeps_evaluations finishes_twice exits_with_3", set(), 60),
        ("wrong_checksum ignores_until drops_episodes always_the_same plays_without_policy", set(), 60),
        ("speaks_version_9", set(), 60),
        ("no_incarnation", set(), 60),
        ("another_session", set(), 60),
        ("new_incarnation forgets_evaluations own_seeds", set(), 60),
        ("other_schema no_heartbeats", set(), 60),
        ("moves_all_slots", {"tail", "restart"}, 60),
        ("no_resend not_finite", set(), 20),
        ("numbers_anew", {"drain"}, 60),
    ],
)
def test_rules_that_an_actor_breaks_are_named(faults: str, follows: set[str], wait_s: float) -> None:
    command = [sys.executable, "-m", "tests.support.broken_client", "{address}", *faults.split()]
    code, told = verdicts(*COUNTER, "--", *command, wait_s=wait_s)
    broken = set().union(*(FAULTS[fault] for fault in faults.split()))
    assert broken <= of(told, "broken") <= broken | follows, told
    assert all(told[rule]["expected"] and told[rule]["got"] for rule in broken)
    assert code == 1


def test_it_waits_for_an_actor_that_somebody_starts() -> None:
    command = [sys.executable, "-m", "covey", "check-actor", "--wait", PATIENCE_S, *COUNTER]
    pipe = subprocess.PIPE
    with started(command, stdout=pipe, stderr=pipe) as checking:
        assert checking.stderr is not None
        found = re.search(r"attach one actor to (\S+)", checking.stderr.readline())
        assert found is not None
        client = [sys.executable, "-m", "tests.support.version_1.client", found[1]]
        with started(client) as actor:
            out, err = checking.communicate(timeout=PATIENCE_S)
            assert actor.wait(PATIENCE_S) == 0
    lines = out.splitlines()
    assert checking.returncode == 0, out + err
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["holds", rule] for rule in RULES if rule in PLAIN - SINCE_VERSION_2 - {"exit"}
    ]
    assert lines[-1] == f"{len(lines) - 1} holds, 0 broken, 0 not reached"


@pytest.mark.parametrize(
    ("command", "got"), [([], "nothing within 1 s"), (["--", "false"], "the end of its process (exit code 1)")]
)
def test_an_actor_that_never_comes_breaks_the_first_rule(command: list[str], got: str) -> None:
    code, told = verdicts(*command, wait_s=1)
    assert code == 1 and of(told, "broken") == {"version"} and told["version"]["got"] == got
    assert of(told, "not reached") == set(told) - {"version"}


def test_a_command_that_cannot_be_started_is_a_sentence() -> None:
    done = covey("check-actor", "--", "./no-such-actor", "{address}")
    assert done.returncode == 2 and done.stdout == ""
    assert "command './no-such-actor' cannot be started (No such file or directory)" in done.stderr.splitlines()[-1]
