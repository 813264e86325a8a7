"""The best policy that a run has had, kept in its directory: members go on learning, and may become worse.

Once a generation the fittest member plays fresh episodes if its fitness is above what is kept, and takes its place if
these confirm it. They may cost at most a twentieth of the generation's env steps.
"""

from __future__ import annotations

import contextlib
import math

from covey.errors import StorageError
from covey.run.directory import SCORE, RunDirectory
from covey.run.files import read_json
from covey.run.kept import put_back, write_kept
from covey.run.trained import TrainedMember
from covey_server.curves.population import score_of
from covey_server.durability.checkpointer import Checkpointer
from covey_server.evolution.fitness import Score
from covey_server.learner import Learner
from covey_server.orders.evaluations import Request
from covey_server.population import Population

SHARE = 0.05
"""Most env steps of confirming episodes, as a share of the generation's env steps of the whole population."""

FEWEST_EPISODES = 10
"""With fewer episodes than these a score says too little to be kept."""


class KeptBest:
    """Keeps the best confirmed policy in `RUN/best`; called by the trainer thread alone.

    Args:
        learner: Its run's directory is written to.
        checkpointer: Knows the kept fitness, which a resumed run has as it was at its checkpoint: what is played again
            is then confirmed again.
    """

    def __init__(self, learner: Learner, checkpointer: Checkpointer) -> None:
        self._learner = learner
        self._checkpointer = checkpointer
        self._held: list[tuple[Request, dict[str, bytes], int]] = []  # what plays a request, and of which generation
        with contextlib.suppress(OSError):  # a disk that refuses this refuses the next policy too, which is told
            put_back(learner.run.best)

    def episodes(self, fitness: float | None) -> int:
        """How many fresh episodes a member of this fitness should play to be kept; 0 if it should play none."""
        kept = self._checkpointer.kept_fitness
        if fitness is None or math.isnan(fitness) or (kept is not None and fitness <= kept):
            return 0
        training, totals = self._learner.config.training, self._learner.totals
        played = totals.counters["evaluation_episodes"]
        if not played:
            return 0
        allowed = SHARE * training.evo_steps * training.pop_size / max(1.0, totals.eval_env_steps / played)
        count = min(training.confirm_episodes, int(allowed))
        return count if count >= FEWEST_EPISODES else 0

    def hold(self, request: Request, population: Population, generation: int) -> None:
        """Hold the policies with which a request was made: the member may learn on, or die, before it is played."""
        self._held.append((request, population.policies.files(request.member_id), generation))

    def enter(self, request: Request, population: Population, score: Score, episodes: int) -> None:
        """Keep what was held for a request if its episodes confirm that it is better than what is kept."""
        found = [held for held in self._held if held[0] is request]
        self._held = [held for held in self._held if held[0] is not request]
        kept = self._checkpointer.kept_fitness
        if not found or math.isnan(score.fitness) or (kept is not None and score.fitness <= kept):
            return
        learner = self._learner
        comparable = score.fitness if score.as_elite is None else score.as_elite
        if score.fitness <= kept_fitness(learner.run):
            self._checkpointer.kept_fitness = comparable
            return  # of a life of the learner that its checkpoint does not know
        _, files, generation = found[0]
        member = TrainedMember(
            learner.run, learner.run.best, request.member_id, generation, learner.config, population.spaces, files
        )
        words = {
            "member_id": request.member_id,
            "generation": generation,
            "fitness": score.fitness,
            "fitness_stderr": score.stderr,
            "episodes": episodes,
            "per_agent": score.per_agent,
            "against": score.against,
            "as_elite": score.as_elite,
            "sides": self._checkpointer.sides,
        }
        try:
            write_kept(learner.run.best, member, words)
        except StorageError as exc:
            # Its fitness is not what is kept: one that is no better than this may still be better than the one before.
            learner.event(f"{exc}; the best policy before stays")
            return
        self._checkpointer.kept_fitness = comparable
        learner.curves.give(score_of("fitness/kept", score), request.member_id)
        learner.event(
            f"best so far: member {request.member_id} of generation {generation}, fitness {score.fitness:.2f} ± "
            f"{score.stderr:.2f} over {episodes} fresh episodes{score.versus}"
        )


def kept_fitness(run: RunDirectory) -> float:
    """The fitness that is to be exceeded by what takes the place of a run's best; minus infinity if it keeps none."""
    with contextlib.suppress(StorageError, KeyError, TypeError, ValueError):
        score = read_json(run.best / SCORE)
        return float(score["fitness"] if score.get("as_elite") is None else score["as_elite"])
    return -math.inf
