"""Looks for evaluations whose returns sum to zero, in which all members are equally fit and none can be selected."""

from __future__ import annotations

from covey.errors import ConfigError
from covey_server.evolution.fitness import Score, cancelling
from covey_server.learner import Learner
from covey_server.orders.evaluations import ActorKey, Request
from covey_server.population import Population

GENERATIONS = 2
"""Generations in all of whose evaluations returns must cancel, and in one evaluation more, before they end a run."""


class CancellingReturns:
    """Tells of returns that cancel, and ends a run in which they do in one evaluation after the other.

    A single such evaluation may be chance, and those of one actor its mistake, or its malice: where there are others, a
    second one must have played some of them.

    Args:
        learner: The run.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._in_a_row = 0
        self._actors: set[ActorKey] = set()

    def look(self, population: Population, request: Request, score: Score) -> None:
        """Look at an evaluation that has been played.

        Raises:
            ConfigError: no evaluation of the last ones can tell members apart.
        """
        if not score.cancels:
            self._in_a_row = 0
            self._actors.clear()
            return
        self._in_a_row += 1
        self._actors.update(request.actors.values())
        sentence = cancelling(population.spaces.agent_ids)
        if self._in_a_row == 1:
            self._learner.event(sentence)
        with self._learner.lock:
            actors = sum(1 for s in self._learner.sessions.active() if s.eval_slots)
        if self._in_a_row > GENERATIONS * len(population.members) and len(self._actors) >= min(2, actors):
            raise ConfigError(sentence)
