"""Actors that keep all rules of the wire but those that they are told to break.

python -m tests.support.broken_client HOST:PORT FAULT ...
"""

from __future__ import annotations

import argparse
import secrets
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from tests.support.version_1 import play
from tests.support.version_1.client import Client
from tests.support.version_1.messages import MESSAGES

FAULTS = {
    "numbers_anew": {"resend", "seq"},
    "a_step_less": {"steps"},
    "other_evaluation_seeds": {"evaluation", "queue"},
    "ignores_restart": {"restart"},
    "other_schema": {"schema"},
    "not_finite": {"checks"},
    "ignores_drain": {"drain"},
    "plays_at_random": {"actions", "layers"},
    "new_incarnation": {"rejoin"},
    "forgets_evaluations": {"queue"},
    "keeps_evaluations": {"epoch"},
    "no_heartbeats": {"heartbeat"},
    "says_another_player": {"players"},
    "moves_all_slots": {"still"},
    "resends_refused": {"refused"},
    "no_resend": {"gap"},
    "own_seeds": {"seeds"},
    "exits_with_3": {"exit"},
    "speaks_version_9": {"version"},
    "no_incarnation": {"join"},
    "another_session": {"hello"},
    "wrong_checksum": {"checksum"},
    "ignores_until": {"until"},
    "drops_episodes": {"episodes"},
    "always_the_same": {"random"},
    "plays_without_policy": {"gone"},
    "finishes_twice": {"drains"},
}
"""By fault the rules that it breaks; what follows from it may break others."""


ENVELOPE_CRC32 = bytes([15 << 3 | 5])
"""Begins the field `Fragment.envelope_crc32` on the wire, which version 1 did not have at first."""


class BrokenClient(Client):
    """A client with these faults."""

    def __init__(self, address: str, name: str, faults: set[str]) -> None:
        super().__init__(address, name)
        self.faults = faults
        self.joined = 0

    def describe(self) -> Any:
        if "speaks_version_9" in self.faults:
            return self.call("Describe", MESSAGES["DescribeRequest"](protocol_version=9), "DescribeResponse")
        return super().describe()

    def join_request(self) -> Any:
        if "no_incarnation" in self.faults:
            self.incarnation = 0
        if "new_incarnation" in self.faults and self.joined:
            self.incarnation = secrets.randbits(63) + 1
        return super().join_request()

    def stream(self, joined: Any) -> bool:
        self.joined += 1
        if self.joined > 1 and "numbers_anew" in self.faults:
            joined.resume_after_seq = self.seq
            if self.joined == 2:
                held, self.outbox, self.seq, joined.resume_after_seq = list(self.outbox.values()), {}, 0, 0
                for fragment in held:
                    self.put(fragment)
        if "keeps_evaluations" in self.faults:
            self.epoch = joined.epoch
        return super().stream(joined)

    def acknowledged(self, ack: Any, sent: dict[str, int]) -> None:
        if "numbers_anew" in self.faults and self.joined > 1:
            ack.durable_seq = 0  # a number that is not its own
        if "no_resend" in self.faults and ack.resend_from_seq:
            ack.ClearField("resend_from_seq")
        refused = {r.seq: self.outbox.get(r.seq) for r in ack.refusals} if "resends_refused" in self.faults else {}
        super().acknowledged(ack, sent)
        for seq, fragment in refused.items():
            self.outbox[seq], sent["next"] = fragment, seq

    def frames(
        self, session: str, sent: dict[str, int], over: threading.Event, finished: threading.Event
    ) -> Iterator[Any]:
        for frame in super().frames(session, sent, over, finished):
            if frame.WhichOneof("kind") == "hello" and "another_session" in self.faults:
                frame.hello.session = "another"
            if frame.WhichOneof("kind") == "finish" and "finishes_twice" in self.faults:
                yield frame
            if not (frame.WhichOneof("kind") == "heartbeat" and "no_heartbeats" in self.faults):
                yield frame

    def answer(self, order: Any) -> None:
        changed = MESSAGES["Order"]()
        changed.CopyFrom(order)
        for work in changed.slots:
            if "a_step_less" in self.faults and work.steps > 1:
                work.steps -= 1
            if "ignores_restart" in self.faults:
                work.restart = False
            if "ignores_until" in self.faults:
                work.until_episode_end = False
            if "own_seeds" in self.faults:
                work.seed = secrets.randbits(32)
        if "forgets_evaluations" in self.faults:
            self.player.forget_evaluations()
        if "moves_all_slots" in self.faults:
            for slot in self.player.training:
                if slot.running and not slot.environment.step()[1]:
                    continue
                slot.running = False
        super().answer(changed)

    def work(self) -> None:
        if "ignores_drain" in self.faults:
            while True:
                order = self.orders.get()
                if order is not None:
                    self.draining.clear()
                    self.answer(order)
        super().work()

    def fetch(self, order: Any) -> bool:
        if super().fetch(order) or "plays_without_policy" not in self.faults:
            return all(not ref.sha256 or ref.sha256 in self.policies for ref in order.policies)
        for i, ref in reversed(list(enumerate(order.policies))):
            if ref.sha256 and ref.sha256 not in self.policies:
                del order.policies[i]
        return True

    def put(self, fragment: Any) -> None:
        if "wrong_checksum" in self.faults:
            fragment.MergeFromString(ENVELOPE_CRC32 + b"abcd")
        if "drops_episodes" in self.faults:
            kept = [episode for episode in fragment.episodes if episode.evaluation]
            del fragment.episodes[:]
            fragment.episodes.extend(kept)
        for episode in fragment.episodes:
            if episode.evaluation and "other_evaluation_seeds" in self.faults:
                episode.seed += 100
            if episode.evaluation and "says_another_player" in self.faults:
                episode.policies = b"x" * len(episode.policies)
        if "other_schema" in self.faults:
            fragment.schema_hash = b"s" * 16
        super().put(fragment)


def main() -> None:
    """Work until the run is complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("faults", nargs="+", choices=FAULTS)
    arguments = parser.parse_args()
    faults = set(arguments.faults)
    if "plays_at_random" in faults:
        act = play.act
        play.act = lambda seen, players, rng, exploration: act(seen, [None] * 3, rng, exploration)
    if "always_the_same" in faults:
        chance = play.act
        play.act = lambda seen, players, rng, exploration: chance(seen, players, np.random.default_rng(0), exploration)
    if "not_finite" in faults:
        step = play.Counter.step

        def step_to_nan(counter: play.Counter) -> Any:
            rewards, over = step(counter)
            return rewards * np.float32(np.nan), over

        play.Counter.step = step_to_nan  # type: ignore[method-assign, assignment]
    BrokenClient(arguments.address, "broken", faults).run()
    sys.exit(3 if "exits_with_3" in faults else 0)


if __name__ == "__main__":
    main()
