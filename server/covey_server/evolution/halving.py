"""Successive halving: which members of a population go on playing evaluation episodes, where all of them cost too much.

All play a first part of the seeds. The better half plays as many again, then the better half of these, until those
left have played all. What is to be known is who the best are: few episodes tell that a member is not one of them, and
the episodes saved go to those between whom it is still open (Karnin et al., 2013, "Almost optimal exploration in
multi-armed bandits"). All members play the same seeds, so that a hard one is hard for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from covey_server.evolution.fitness import Score, best, rank_key

Episode = TypeVar("Episode")
"""An episode that was played, as the function that computes scores takes it, such as each agent's return."""

FEWEST_EPISODES = 4
"""Episodes that every member plays at least, if an evaluation has so many."""

SHARE = 0.1
"""Share of the env steps trained with that evaluating all members in full may cost; beyond it they are halved."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of an evaluation.

    Attributes:
        members: How many members play.
        episodes: How many episodes each of these has played when the stage ends, those of earlier stages included.
    """

    members: int
    episodes: int


def stages(members: int, episodes: int, affordable: float, line_ups: int = 1) -> list[Stage]:
    """Plan an evaluation with as few halvings as bring it down to the number of episodes that is affordable.

    For 32 members and 32 episodes, of which 300 are affordable in all: 32 members play 4 episodes, 16 play 8, 8 play
    16, and 4 play all 32. That is 320 episodes instead of 1,024, and as few as there can be.

    Args:
        members: Size of the population.
        episodes: Most episodes that a member plays.
        affordable: Number of episodes of all members together that is affordable; it may be too small for any plan.
        line_ups: In how many ways a member meets its opponents, one after the other. Every stage ends when each was
            played as often, as one opponent is stronger than another. `episodes` must be a multiple of it.
    """
    plan: list[Stage] = []
    rounds = math.ceil(episodes / line_ups)  # of each line-up once
    fewest = math.ceil(FEWEST_EPISODES / line_ups)
    for halvings in range(max(1, math.ceil(math.log2(members)) + 1)):
        after = [math.ceil(rounds / 2 ** (halvings - i)) for i in range(halvings + 1)]
        if plan and (after[0] < fewest or after[0] == after[1]):
            break
        plan = [Stage(math.ceil(members / 2**i), min(episodes, n * line_ups)) for i, n in enumerate(after)]
        before = [0, *(stage.episodes for stage in plan)]
        if sum(s.members * (s.episodes - b) for s, b in zip(plan, before, strict=False)) <= affordable:
            break
    return plan


class Halving(Generic[Episode]):
    """One evaluation of a population, stage by stage. Its results depend on the episodes' alone, in whatever order.

    Args:
        members: Ids of the members that are compared.
        episodes: Most episodes that a member plays.
        trained: Env steps trained with, of all members: what the cost of evaluation is compared with.
        score: Computes a score from episodes, as `fitness_of` does.
        line_ups: In how many ways a member meets its opponents; episode k is played in way k modulo this number.

    Attributes:
        playing: Ids of the members that play the current stage, ascending.
        played: Number of episodes that each of them has played when the stage ends.
    """

    def __init__(
        self,
        members: Sequence[int],
        episodes: int,
        trained: int,
        score: Callable[[int, Sequence[Episode]], Score],
        line_ups: int = 1,
    ) -> None:
        self.playing = sorted(members)
        self.played = min(episodes, math.ceil(FEWEST_EPISODES / line_ups) * line_ups)
        self._episodes = episodes
        self._trained = trained
        self._score = score
        self._line_ups = line_ups
        self._plan: list[Stage] | None = None
        self._results: dict[int, dict[int, Episode]] = {m: {} for m in members}
        self._open = set(members)
        self._env_steps = 0

    def enter(self, member: int, results: Mapping[int, Episode], env_steps: int) -> bool:
        """Record what a member has played of the current stage; returns whether that was the last of the stage.

        Args:
            member: Its id.
            results: Episodes by seed; of seeds on which the environment failed there are none.
            env_steps: Length of these episodes together.
        """
        self._results[member] |= results
        self._env_steps += env_steps
        self._open.discard(member)
        return not self._open

    def advance(self) -> range | None:
        """Begin the next stage: drop the worse members; returns which seeds it plays, None at the end."""
        if self._plan is None:
            count = sum(map(len, self._results.values()))
            length = self._env_steps / count if count else 1.0
            affordable = SHARE * self._trained / max(1.0, length)
            # All have played the first episodes: of a first stage that asks for more they play the rest.
            plan = stages(len(self._results), self._episodes, affordable, self._line_ups)
            self._plan = [stage for stage in plan if stage.episodes > self.played]
        if not self._plan:
            return None
        stage, start = self._plan.pop(0), self.played
        ranked = sorted(self.playing, key=lambda m: (-rank_key(self._mean(m)), m))
        self.playing, self.played = sorted(ranked[: stage.members]), stage.episodes
        self._open = set(self.playing)
        return range(start, self.played)

    def scores(self) -> dict[int, Score]:
        """Every member's score, by id.

        A member that has played all episodes has the mean over them as its fitness. One that was dropped has played
        easier or harder seeds than all of them are, by chance, as the best one has too. So its fitness is that of the
        best, less the mean difference between the two over the seeds that both have played:

            fitness(m) = mean(best, all its seeds) - (mean(best, shared seeds) - mean(m, shared seeds))
        """
        scores = {m: self._score(m, list(self._of(m).values())) for m in self._results}
        leader = best({m: scores[m].fitness for m in self.playing})
        if math.isnan(scores[leader].fitness):
            return scores
        for member in self._results.keys() - set(self.playing):
            shared = self._of(member).keys() & self._of(leader).keys()
            if shared:
                behind = self._mean(leader, shared) - self._mean(member, shared)
                scores[member] = replace(scores[member], fitness=scores[leader].fitness - behind)
        return scores

    def _of(self, member: int) -> dict[int, Episode]:
        """A member's episodes by seed, ascending, so that sums do not depend on the order of arrival."""
        return dict(sorted(self._results[member].items()))

    def _mean(self, member: int, seeds: set[int] | None = None) -> float:
        """A member's fitness over these seeds, or over all that it has played."""
        played = self._of(member)
        return self._score(member, [played[seed] for seed in played if seeds is None or seed in seeds]).fitness
