"""What is known about the environments of `tests.support.probes.simultaneous`, and how far a member is from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from tests.support.probes.environment import Numbers
from tests.support.probes.learned import Learned
from tests.support.probes.simultaneous import AGENTS

from covey.spaces import choices

VALUE_TOLERANCE = 0.1
ACTION_TOLERANCE = 0.1
"""Of a Box, the share of its range; of a choice, how likely another one may be when the policy is sampled."""

Seen = tuple[float, ...]
Values = Callable[[Seen, Seen], tuple[float, ...]]
"""From what all agents see and do to each agent's value."""
Wanted = Callable[[Seen], tuple[float | None, ...]]
"""From what all agents see to what each should do; None: no matter."""


@dataclass(frozen=True)
class Known:
    """A function of `tests.support.probes.simultaneous` and what is known about it.

    Agents are in the environment's order throughout.

    Attributes:
        function: Its name, with the module's where that is another one.
        seen: What all agents may see, of the kind of action.
        values: Of the kind of action: what an agent's part is worth from there on, if all go on as is wanted.
        wanted: Of the kind of action.
        config: Further arguments of the function.
        steps: Env steps of each member; IPPO, which learns from each just once, gets four times as many, others twice
            as many where actions are several choices.
        tolerance: Of values.
        box_tolerance: The same where actions are Box: critics see the ends of the range seldom, and must bend.
        algorithm: Further settings.
        agents: Their names.
        masked: Agents that may not do everything.
        acting: Who may act at a time, by what is seen.
    """

    function: str
    seen: Callable[[str], Sequence[Seen]]
    values: Callable[[str], Values]
    wanted: Callable[[str], Wanted] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    steps: int = 250
    tolerance: float = VALUE_TOLERANCE
    box_tolerance: float = VALUE_TOLERANCE
    algorithm: dict[str, Any] = field(default_factory=dict)
    agents: tuple[str, ...] = AGENTS
    masked: tuple[str, ...] = ()
    acting: Callable[[Seen], Sequence[tuple[str, ...]]] | None = None

    @property
    def name(self) -> str:
        """For people."""
        settings = (*self.config.items(), *self.algorithm.items())
        return "-".join([self.function.rpartition(":")[2], *(k if v is True else f"{k}={v}" for k, v in settings if v)])


@dataclass(frozen=True)
class Case:
    """A probe with an algorithm and a kind of action."""

    known: Known
    algorithm: str
    kind: str

    def __str__(self) -> str:
        return f"{self.known.name}-{self.algorithm}-{self.kind}"

    @property
    def steps(self) -> int:
        """Env steps of each member; the less a single choice changes a reward, the more."""
        if self.algorithm == "IPPO":
            return self.known.steps * 4
        return self.known.steps * (2 if self.kind in ("MultiDiscrete", "MultiBinary") else 1)

    def named(self, numbers: Seen) -> Numbers:
        """Numbers by agent."""
        return dict(zip(self.known.agents, numbers, strict=True))

    def acting(self, seen: Seen) -> Sequence[tuple[str, ...]]:
        """Who may act where that is seen; IPPO's critics do not ask."""
        if self.known.acting is None or self.algorithm == "IPPO":
            return (self.known.agents,)
        return self.known.acting(seen)


def value_errors(learned: Learned, case: Case) -> list[float]:
    """Of every critic, for all that may be seen and done; of IPPO's, for what is wanted to be done."""
    known = case.known
    values = known.values(case.kind)
    errors = []
    for seen in known.seen(case.kind):
        for done, acting in product(_done(learned, case, seen), case.acting(seen)):
            for agent, expected in zip(known.agents, values(seen, done), strict=True):
                if agent in acting:
                    told = learned.values(agent, case.named(seen), case.named(done), acting)
                    errors += [abs(value - expected) for value in told]
    return errors


def _done(learned: Learned, case: Case, seen: Seen) -> list[Seen]:
    """All that all agents may do; for IPPO what they should, or 0 where that does not matter."""
    if case.algorithm != "IPPO":
        # Of several choices the ends alone, as one place between them stands for many actions.
        ends = [learned.space(a).width == 2 or len(choices(learned.space(a))) > 1 for a in case.known.agents]
        places = [(0.0, 1.0) if only else (0.0, 0.5, 1.0) for only in ends]
        return list(product(*places))
    wanted = case.known.wanted(case.kind)(seen) if case.known.wanted else (0.0,) * len(seen)
    return [tuple(w or 0.0 for w in wanted)]


def value_tolerance(learned: Learned, case: Case) -> float:
    """How far off a value may be."""
    known = case.known
    return known.tolerance if all(learned.chooses(a) for a in known.agents) else known.box_tolerance


def action_errors(learned: Learned, case: Case) -> list[float]:
    """Of every policy: how far off it is (Box), or how likely it does something else, or 1 if that is its best."""
    known = case.known
    if known.wanted is None:
        return []
    errors = []
    for seen in known.seen(case.kind):
        wanted = known.wanted(case.kind)(seen)
        done = learned.does(case.named(seen), known.masked)
        often = learned.often(case.named(seen), case.named(tuple(w or 0.0 for w in wanted)), known.masked)
        for agent, expected in zip(known.agents, wanted, strict=True):
            if expected is None:
                continue
            error = abs(done[agent] - expected)
            errors.append(max(error, 1 - often[agent]) if learned.chooses(agent) else error)
    return errors
