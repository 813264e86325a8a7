"""The configured numbers by which orders are made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured numbers that the scheduler needs, under their configuration names; steps are env steps.

    Attributes:
        seed: Seed of the run (`training.seed`).
        fragment_steps: Most env steps of one slot in one order, where env steps are not cheap.
        longest_steps: The same where they are cheap; equal where the length is pinned.
        turn_steps: Env steps after which a slot passes to a member that is behind.
        random_steps: This many first env steps of the whole population are played by the random policy.
        max_orders: Most outstanding orders of one actor.
    """

    seed: int
    fragment_steps: int
    longest_steps: int
    turn_steps: int
    random_steps: int
    max_orders: int
