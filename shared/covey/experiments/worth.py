"""What each kind of mutation was worth, by the lineages of runs.

Every generation improves, mutated or not, and parents were chosen because they came out high. So a child's fitness less
what its parent had before says nothing about its mutation. A fair comparison is with an exact copy of the parent, which
begins the same generation with the same weights, trains for as many env steps, and is evaluated by the same episodes:

    gain = fitness of the child after its first generation
           - mean fitness, in the same evaluation, of its parent that went on unchanged (the elite, a winner of
             multi-frequency selection) and of its siblings by the mutation "none"

Children of parents of which no copy goes on are left out. A child by the mutation "none" is itself compared with the
other copies: its gain is 0 on average, and its interval shows how far chance alone goes.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covey.experiments.statistics import DRAWS, Estimate, estimate, mean

Members = Sequence[Mapping[str, Any]]
"""All members that ever lived in one run, as `covey lineage --json` prints them."""

KINDS = ("none", "parameters", "activation", "architecture", "rl_hp", "migrant")
"""Kinds of mutation in the order in which they are shown; others come last."""

FEWEST_DRAWS = 200

MOST_NUMBERS = 10_000_000
"""Numbers that are drawn for one interval at most, if that leaves `FEWEST_DRAWS` bootstrap samples."""


@dataclass(frozen=True, slots=True)
class Child:
    """One child that lived through a generation.

    Attributes:
        kind: Its mutation, such as "rl_hp".
        change: What that changed, such as "lr_actor up" or "head.add_node"; empty where there is only one way.
        gain: Its fitness less that of copies of its parent; None where it has none or there is no copy.
        known: Whether the run tells what its fitness was after its first generation.
        diverged: Whether it had no fitness, as its weights were not finite.
    """

    kind: str
    change: str
    gain: float | None
    known: bool
    diverged: bool


@dataclass(frozen=True, slots=True)
class Worth:
    """What one kind of mutation was worth.

    Attributes:
        kind: The mutation.
        change: What it changed; empty for all children of the kind together.
        children: How many were born by it and have lived through a generation.
        compared: How many of them have a gain.
        diverged: How many had no fitness, as their weights were not finite.
        gain: Mean of the gains with its bootstrap interval over children; None without any.
    """

    kind: str
    change: str
    children: int
    compared: int
    diverged: int
    gain: Estimate | None


def children_of(members: Members) -> list[Child]:
    """The children in a run's lineage that have lived through a generation, each with its gain.

    Raises:
        KeyError, TypeError, ValueError: a member lacks a field, or has one of another type.
    """
    copies: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    for m in members:
        if m["mutation"] == "none" and m["parent_id"] is not None and (own := _number(m, "first_fitness")) is not None:
            copies[m["parent_id"], m["generation"]].append((m["member_id"], own))
    found = []
    for m in members:
        fitness = _number(m, "fitness")
        if m["parent_id"] is None or (fitness is None and m["died_generation"] is None):
            continue  # of the first population, or not evaluated yet
        own, parent = _number(m, "first_fitness"), _number(m, "parent_fitness")
        others = [f for member_id, f in copies[m["parent_id"], m["generation"]] if member_id != m["member_id"]]
        others += [] if parent is None else [parent]
        gain = own - math.fsum(others) / len(others) if own is not None and others else None
        kind, change = _kind(str(m["mutation"]), str(m["change"]))
        found.append(Child(kind, change, gain, own is not None or fitness is None, own is None and fitness is None))
    return found


def worth_of(children: Iterable[Child]) -> list[Worth]:
    """What each kind of mutation was worth; where a kind has several ways of change, each of them after the whole."""
    by_kind: dict[str, list[Child]] = defaultdict(list)
    for child in children:
        by_kind[child.kind].append(child)
    found = []
    for kind in sorted(by_kind, key=lambda kind: (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)):
        found.append(_worth(kind, "", by_kind[kind]))
        changes = sorted({c.change for c in by_kind[kind]} - {""})
        found += [_worth(kind, change, [c for c in by_kind[kind] if c.change == change]) for change in changes]
    return found


def _worth(kind: str, change: str, children: Sequence[Child]) -> Worth:
    gains = np.array([c.gain for c in children if c.gain is not None])
    gain = None
    if len(gains):
        gain = estimate(mean, [gains], draws=min(DRAWS, max(FEWEST_DRAWS, MOST_NUMBERS // len(gains))))
    return Worth(kind, change, len(children), len(gains), sum(c.diverged for c in children), gain)


def _kind(mutation: str, change: str) -> tuple[str, str]:
    """Kind and way of a mutation, from its record: ("rl_hp", "lr_actor 0.001 -> 0.0012") is "lr_actor up"."""
    if mutation == "rl_hp" and (found := re.match(r"(\w+) (\S+) -> ([^\s;]+)", change)):
        name, before, after = found.groups()
        return mutation, f"{name} {'up' if float(after) > float(before) else 'down'}"
    if mutation == "architecture" and (named := re.match(r"[\w.]+", change)):
        return mutation, named.group()  # the first of what was done, where networks had room for different changes
    if mutation == "migrant" and change:
        return mutation, "weights alone"
    return mutation, ""


def _number(member: Mapping[str, Any], name: str) -> float | None:
    """A fitness in the record of a member; None if it has none, or its learner did not note it."""
    value = member.get(name)
    return None if value is None or not math.isfinite(value) else float(value)
