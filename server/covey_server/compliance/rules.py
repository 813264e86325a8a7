"""The rules that an actor is tried on, each with the words of proto/README.md, and the verdict on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from covey.errors import one_line

MOST_CHARACTERS = 400
"""Characters that are kept of what an actor sent."""

RULES: dict[str, str] = {
    "version": "Describe sends the newest version that the actor speaks",
    "join": "**Join** gives the actor's name, its *incarnation*",
    "hello": "The first frame up is `Hello` with the session",
    "answer": "An order is answered by exactly one fragment, even where nothing came of it",
    "seq": "`seq` counts 1, 2, 3 ... without a gap over the fragments of one incarnation",
    "schema": "Join announces the schema hash, every fragment repeats it",
    "checks": "Every fragment passes the learner's checks",
    "checksum": "`envelope_crc32`, where it is set, is the CRC-32 (that of zlib) of these bytes",
    "parts": "Fragments over 1 MiB go in parts",
    "steps": "A slot makes exactly its `steps`, unless the fragment says why not (`shortfall`)",
    "still": "Slots that it does not name stand still: their episode, noise and observation stay as they are",
    "tail": "where the slot stands when the fragment ends; it comes again as the next fragment's first row",
    "context": "A stream that goes on with an episode begins with its last observations before the stream's first row",
    "restart": "the running episode is abandoned (the next stream of this slot says `cut_before`)",
    "seeds": "Its episodes are then seeded from `seed` and their index",
    "episodes": "The envelope also has the episodes that ended",
    "until": "with `until_episode_end` it stops there",
    "random": "`random` draws uniformly from the action space",
    "fetch": "An actor fetches the policies that it lacks while it works on the order before",
    "actions": "A policy's outputs `z` become actions in this way",
    "layers": "where layer_norm: y = (y - mean(y)) / sqrt(var(y) + 1e-5) * p.i.norm.scale + p.i.norm.bias",
    "normalized": "parts `[first, end]` of the encoded observation, first included and end not, whose numbers are "
    "normalised",
    "epsilon": "uniform with probability `scale`, else the first largest",
    "memory": "It moves on by the policy's GRU in each row in which the agent acts (`active` 1 or 2)",
    "states": "A state is what the agent remembers where the stream begins, behind its lead-in rows",
    "gone": "the actor runs nothing and answers with an empty fragment and `SHORTFALL_POLICY_UNAVAILABLE`",
    "evaluation": "Play one episode for each seed (reset with exactly this seed) without exploration",
    "players": "`Episode.policies` names who played, 16 bytes for each agent in environment order",
    "queue": "unfinished goes on in the next order that has `eval_steps`",
    "resend": "A fragment keeps its `seq` and its bytes until it is acknowledged",
    "rejoin": "It calls Join again, with the same incarnation, and resends",
    "gap": "resends from `resend_from_seq` where set",
    "refused": "The mark passes it, and it must not be sent again",
    "epoch": "When Join answers another `epoch` (the learner has restarted), all of it is void",
    "heartbeat": "An actor sends a `Heartbeat` every `heartbeat_interval_s`",
    "drain": "ends the order in work at the next step, sends what it holds, then `Finish`",
    "drains": "It may come several times: further ones change nothing",
    "exit": "with `run_complete` it exits 0",
}
"""The rules by name, in the order in which they are told: each a sentence of proto/README.md, or a part of one."""


@dataclass(slots=True)
class Verdict:
    """What was found about one rule.

    Attributes:
        verdict: "holds", "broken" or "not reached".
        expected: Of a broken rule, what the actor should have sent.
        got: Of a broken rule, what it sent.
    """

    verdict: str = "not reached"
    expected: str = ""
    got: str = ""


class Verdicts:
    """The verdicts on all rules, by name; a rule that was broken once stays broken.

    Args:
        names: The rules to be tried.
    """

    def __init__(self, names: tuple[str, ...] = tuple(RULES)) -> None:
        self.by_rule = {name: Verdict() for name in names}

    def check(self, rule: str, holds: bool, expected: str, got: object) -> bool:
        """Note whether a rule holds in one place, and if not, what was expected and what came; returns `holds`."""
        verdict = self.by_rule[rule]
        if verdict.verdict != "broken":
            verdict.verdict = "holds" if holds else "broken"
            if not holds:
                verdict.expected, verdict.got = expected, one_line(str(got), MOST_CHARACTERS)
        return holds

    def never(self, rule: str, happened: bool, expected: str, got: object) -> None:
        """Note that a rule is broken if this has happened; that it has not does not show that the rule holds."""
        if happened:
            self.check(rule, False, expected, got)

    def leave_out(self, *rules: str) -> None:
        """Leave out rules that the actor need not keep, in the protocol version that it speaks."""
        for rule in rules:
            self.by_rule.pop(rule, None)

    def reached(self, rule: str) -> bool:
        """Whether there is a verdict on a rule."""
        return self.by_rule[rule].verdict != "not reached"

    @property
    def all_hold(self) -> bool:
        """Whether every rule was reached and kept."""
        return all(v.verdict == "holds" for v in self.by_rule.values())

    def count(self, verdict: str) -> int:
        """The number of rules with this verdict."""
        return sum(v.verdict == verdict for v in self.by_rule.values())

    def as_json(self) -> list[dict[str, Any]]:
        """The verdicts as JSON objects, in the order of the rules."""
        return [
            {"rule": name, "verdict": v.verdict, "sentence": RULES[name]}
            | ({"expected": v.expected, "got": v.got} if v.verdict == "broken" else {})
            for name, v in self.by_rule.items()
        ]

    def lines(self) -> list[str]:
        """The verdicts for people, one line each."""
        wide = max(map(len, self.by_rule))
        return [
            f"{v.verdict:<12} {name:<{wide}}  {RULES[name]}"
            + (f": expected {v.expected}, got {v.got}" if v.verdict == "broken" else "")
            for name, v in self.by_rule.items()
        ]
