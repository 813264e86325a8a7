"""Looks for evaluations whose returns sum to zero, in which all members are equally fit and none can be selected."""

from __future__ import annotations

from covey.errors import ConfigError
from covey_server.evolution.fitness import Score, cancelling
from covey_server.learner import Learner
from covey_server.orders.evaluations import ActorKey, Request
from covey_server.population import Population

GENERATIONS = 2
"""The run ends if the agents' returns cancel in all evaluations of so many generations, and in one more."""


class CancellingReturns:
    """Tells of returns that cancel, and ends a run in which they do in one evaluation after the other.

    A single such evaluation may be chance, and those of one actor its mistake, or its malice: every actor at work must
    have played some of them.

    Args:
        learner: The run.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._in_a_row = 0
        self._players: set[ActorKey] = set()

    def look(self, population: Population, request: Request, score: Score) -> None:
        """Look at an evaluation that has been played.

        Raises:
            ConfigError: no evaluation of the last ones can tell members apart.
        """
        if not score.cancels:
            self._in_a_row = 0
            self._players.clear()
            return
        self._in_a_row += 1
        self._players |= request.players
        sentence = cancelling(population.spaces.agent_ids)
        if self._in_a_row == 1:
            self._learner.event(sentence)
        with self._learner.lock:
            others = {s.key for s in self._learner.sessions.active() if s.eval_slots} - self._players
        if self._in_a_row > GENERATIONS * len(population.members) and not others:
            raise ConfigError(sentence)
