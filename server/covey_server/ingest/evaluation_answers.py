"""Whether an actor plays the evaluations that it was given: seeds that it does not play go back to be played by others.

Otherwise a seed would stay with an actor that answers with other seeds, other policies, or nothing at all, and the
generation would never end.
"""

from __future__ import annotations

from collections.abc import Mapping

from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.learner import Learner
from covey_server.orders.session import Session

VOID_ANSWERS = 3
"""So many answers in a row that did nothing of what was asked count as one fragment that no honest actor sends."""


class EvaluationAnswers:
    """Looks at what an actor's fragments do for the evaluations that it was given.

    Args:
        learner: Its scheduler gets seeds back.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def look(self, session: Session, fragment: Fragment, order: Order, evaluated: Mapping[str, int]) -> None:
        """Take an actor's open seeds back if it does not play them. Call it under the lock.

        Args:
            session: The actor's session.
            fragment: A fragment of it that was accepted.
            order: The order that it answers.
            evaluated: How many of its evaluation episodes count, are late or wrong, by `Evaluations.result`'s names.
        """
        if evaluated.get("counts") or any(fault.evaluation for fault in fragment.faults):
            # It plays them; where its environment breaks, `Evaluations.fault` counts that.
            session.void_evaluations = session.evaluated_steps = 0
            self._learner.scheduler.evaluated(session.key, brought=True)
            return
        session.evaluated_steps += fragment.eval_steps
        config, shortest = self._learner.config, self._learner.scheduler.lengths.shortest
        # Of all evaluation slots one must have ended its episode within so many env steps.
        limit = max(1, session.eval_slots) * (config.eval_episode_steps + shortest)
        if evaluated.get("wrong"):
            what = "answered with other seeds, tasks or policies"
        elif order.evaluations and not (fragment.eval_steps or fragment.shortfall):
            # Of an order that gave it none it may have nothing left: it has ended them in the order before.
            what = "played nothing of them"
        elif session.evaluated_steps > limit:
            what = f"ended no episode of them in {session.evaluated_steps:,} env steps"
        else:
            return
        session.evaluated_steps = 0
        seeds = self._learner.scheduler.evaluations.unfinished(session.key)
        self._learner.scheduler.evaluated(session.key, brought=False)
        session.void_evaluations += 1
        self._learner.count("evaluations_taken_back")
        if session.void_evaluations % VOID_ANSWERS == 0:
            session.violations += 1
        if session.void_evaluations.bit_count() == 1:  # told at the first, second, fourth ... time
            self._learner.event(
                f"actor {session.actor_id} was given evaluations and {what}; {seeds} seeds are played by others (its "
                f"void answer {session.void_evaluations:,})"
            )
