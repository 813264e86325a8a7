"""What an actor's agents remember, held against the specification: right states and actions, and wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zstandard
from tests.support.asynchronous_play import Part, RhythmsEnv

from covey.acting import LoadedPolicy
from covey.acting.states import AgentStates
from covey.collect import Collector
from covey.envs import SyncSlots, read_spaces
from covey.rows import RowSchema
from covey.v1.order_pb2 import Order
from covey_server.compliance.asked import Work
from covey_server.compliance.policies import sample_policies
from covey_server.compliance.remembered import Remembered
from covey_server.compliance.rules import Verdicts
from covey_server.ingest.validation import check_fragment

RULES = ("memory", "states")


def rhythms() -> Any:
    parts = {"walker_0": Part(1), "chooser_0": Part(3), "walker_1": Part(2, death=5)}
    return RhythmsEnv(length=9, parts=parts)


def verdicts(spoil_order: int = 0) -> dict[str, str]:
    """What is found of an actor in five orders; one of them may be sent with other states."""
    spaces = read_spaces(rhythms())
    schema = RowSchema.of(spaces)
    players = sample_policies(spaces, plain=True, seed=1, memory=True)
    policies = {p.sha256: LoadedPolicy.decode(p.file) for p in players}
    collector = Collector(SyncSlots(rhythms, spaces, 1), spaces, schema, 1, 1)
    found = Verdicts(RULES)
    remembered = Remembered(spaces, found)
    for number in range(1, 6):
        order = Order(order_id=number)
        for player in players:
            order.policies.add(sha256=player.sha256, member_id=1)
        order.slots.add(slot=0, steps=4, agent_policies=range(3), member_id=1, seed=3, restart=number == 1)
        sent = collector.run(order, policies)
        if number == spoil_order:
            raw = zstandard.ZstdDecompressor().decompress(sent.blob)
            sent.blob = zstandard.ZstdCompressor(write_checksum=True).compress(
                raw[:-4] + np.array([0.5], "<f4").tobytes()
            )
        accepted = check_fragment(sent, order, schema, spaces)
        work = Work(0, players, 4, restart=number == 1)
        remembered.look(sent, [work], {s.slot: s for s in accepted.streams}, accepted)
    return {rule: verdict.verdict for rule, verdict in found.by_rule.items()}


def test_our_own_actor_remembers_what_the_specification_says() -> None:
    assert verdicts() == {"memory": "holds", "states": "holds"}


@pytest.mark.parametrize("order", [1, 2, 4])
def test_other_states_are_told(order: int) -> None:
    assert verdicts(order)["states"] == "broken"


def test_an_actor_that_lets_waiting_agents_remember_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    see = AgentStates.see
    monkeypatch.setattr(AgentStates, "see", lambda own, present, living: see(own, None, living))
    assert "broken" in verdicts().values()


def test_an_actor_that_remembers_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentStates, "put", lambda own, rows, states: None)
    assert "broken" in verdicts().values()
