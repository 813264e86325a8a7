"""The rules are the specification's, and policies are compared with what is done under them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covey.acting import Decisions, LoadedPolicy
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, Space
from covey_server.compliance.policies import sample_policies
from covey_server.compliance.rules import RULES, Verdicts

SLOTS = 40


def test_each_rule_is_a_sentence_of_the_specification() -> None:
    page = " ".join((Path(__file__).parents[3] / "proto" / "README.md").read_text().split())
    assert {name: sentence for name, sentence in RULES.items() if sentence not in page} == {}


def test_a_rule_that_was_broken_once_stays_broken_and_one_that_was_not_reached_is_none_that_holds() -> None:
    verdicts = Verdicts(("seq", "steps", "gap"))
    verdicts.check("seq", True, "", "")
    verdicts.check("steps", False, "6 steps", 5)
    verdicts.check("steps", False, "7 steps", 4)
    verdicts.check("steps", True, "", "")
    told = {v["rule"]: (v["verdict"], v.get("expected"), v.get("got")) for v in verdicts.as_json()}
    assert told == {
        "seq": ("holds", None, None),
        "steps": ("broken", "6 steps", "5"),
        "gap": ("not reached", None, None),
    }
    assert not verdicts.all_hold
    kept = Verdicts(("seq",))
    kept.check("seq", True, "", "")
    assert kept.all_hold


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    ("action", "masked"),
    [
        (Box("float32", (2,), (-2.0, 0.0), (6.0, np.inf)), False),
        (Box("int32", (2,), (0.0, 0.0), (9.0, 9.0)), False),
        (Discrete(5, start=3), False),
        (Discrete(5), True),
        (MultiDiscrete((2, 3)), False),
        (MultiDiscrete((2, 3)), True),
        (MultiBinary(4), False),
    ],
)
def test_what_a_policy_does_is_told_from_anything_else(action: Space, masked: bool, plain: bool) -> None:
    agents = [AgentSpec(f"a_{i}", Box("float32", (3,), (-1.0,) * 3, (1.0,) * 3), action, masked) for i in range(2)]
    spaces = EnvironmentSpaces.build(agents)
    players = sample_policies(spaces, plain=plain, seed=4)
    loaded = [LoadedPolicy.decode(player.file) for player in players]
    rng = np.random.default_rng(0)
    seen = rng.uniform(-1, 1, (SLOTS, 2, 3)).astype(np.float32)
    masks = None
    if masked:
        masks = rng.integers(0, 2, (SLOTS, 2, action.width)).astype(np.uint8)
        masks[..., [0, 2]] = 1  # every choice has a legal value
    decisions = Decisions(spaces, SLOTS)
    decisions.plan(dict.fromkeys(range(SLOTS), loaded))
    decisions.begin_episodes(list(range(SLOTS)))
    decisions.prepare(rng, 1)
    _, stored = decisions.decide([seen], [masks], rng)
    for number in (0, 1):
        taken, mask = stored[0][:, number], None if masks is None else masks[:, number]
        assert not players[number].wrong(number, seen[:, number], taken, mask).any()
        others = np.roll(taken, 1, axis=0)
        differ = (others != taken).reshape(SLOTS, -1).any(1)
        assert differ.any(), "or nothing is told apart"
        wrong = players[number].wrong(number, seen[:, number], others, mask)
        assert wrong[differ].mean() > 0.7 and not wrong[~differ & (mask is None)].any()
