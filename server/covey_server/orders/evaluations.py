"""Evaluation episodes: which seeds each member has still to play, which actor plays them, and their returns.

A request is one member's evaluation by fixed policies, its own and perhaps opponents'. Its seeds are handed out to
actors in tasks; the seeds that a lost actor has not answered go back and are played again from the start of their
episodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from covey.v1.fragment_pb2 import Episode
from covey.v1.order_pb2 import Evaluation, PolicyRef
from covey.wire.limits import POLICY_PREFIX_BYTES

ActorKey = tuple[str, int]
"""Identifies one process of an actor: (actor id, incarnation)."""

MAX_FAULTS_PER_SEED = 3
"""A seed on which the environment raises this often is given up; the evaluation goes on without it."""


@dataclass(slots=True)
class Request:
    """One population member's evaluation: the seeds to play, and the returns of those that were played.

    Attributes:
        member_id: The member that is evaluated.
        purpose: "fitness" for selection, "confirm" for the best member's further episodes, which may end the run, or
            "best" for those that may make it the best so far.
        players: By seed the policy of each agent in its episode, in environment order.
        max_episode_steps: Env steps after which an episode is cut off.
        pending: Seeds that no actor has, in the order in which they are handed out.
        results: Undiscounted return of each agent, in environment order, by seed.
        env_steps: Length of the episodes in `results` together.
        open_seeds: Number of seeds without a result, whether an actor has them or not.
        faults: How often the environment raised, by seed.
        actors: Which actor has played a seed, by seed, as in `results`.
    """

    member_id: int
    purpose: str
    players: Mapping[int, Sequence[PolicyRef]]
    max_episode_steps: int
    pending: deque[int]
    results: dict[int, list[float]] = field(default_factory=dict)
    env_steps: int = 0
    open_seeds: int = 0
    faults: dict[int, int] = field(default_factory=dict)
    actors: dict[int, ActorKey] = field(default_factory=dict)

    def fingerprint(self, seed: int) -> bytes:
        """What the report of a seed's episode must name as its policies.

        For each agent the first 16 bytes of the SHA-256 of its policy file, or 16 zero bytes for a built-in policy.
        """
        return b"".join(ref.sha256[:POLICY_PREFIX_BYTES] or bytes(POLICY_PREFIX_BYTES) for ref in self.players[seed])

    def alike(self, seeds: Iterable[int]) -> Iterable[list[int]]:
        """Divide seeds into those whose episodes are played by the same policies, which one task can name."""
        groups: dict[bytes, list[int]] = {}
        for seed in seeds:
            groups.setdefault(self.fingerprint(seed), []).append(seed)
        return groups.values()


@dataclass(slots=True)
class _Task:
    """Seeds of one member's evaluation that an actor was given; `open` are those whose returns it has not sent."""

    request: Request
    actor: ActorKey
    given: frozenset[int]
    open: set[int]


class Evaluations:
    """All evaluations in the order in which they were requested, and which seeds of them actors are playing.

    Args:
        first_task_id: Task ids count up from here; unique over the run.
    """

    def __init__(self, first_task_id: int = 1) -> None:
        self._requests: list[Request] = []
        self._tasks: dict[int, _Task] = {}
        self._next_task_id = first_task_id

    def request(
        self,
        member_id: int,
        purpose: str,
        players: Mapping[int, Sequence[PolicyRef]],
        max_episode_steps: int,
    ) -> Request:
        """Request evaluation episodes of a population member, one for each seed.

        Args:
            member_id: The member.
            purpose: "fitness", "confirm" or "best".
            players: By seed, of each of which one episode is played, the policy of each agent, in environment order.
            max_episode_steps: Env steps after which an episode is cut off.
        """
        request = Request(member_id, purpose, players, max_episode_steps, deque(players))
        request.open_seeds = len(request.pending)
        self._requests.append(request)
        return request

    @property
    def pending(self) -> bool:
        """Whether any evaluation seed still waits to be given to an actor."""
        return any(r.pending for r in self._requests)

    def unfinished(self, actor: ActorKey) -> int:
        """Return how many evaluation seeds this actor was given and has not sent returns for."""
        return sum(len(t.open) for t in self._tasks.values() if t.actor == actor)

    def take(self, actor: ActorKey, seeds: int) -> list[tuple[Evaluation, Sequence[PolicyRef]]]:
        """Give an actor at most this many evaluation seeds.

        Returns a task for each evaluation and each set of policies in it, with each agent's policy.
        """
        tasks = []
        for request in self._requests:
            if seeds <= 0:
                break
            taken = [request.pending.popleft() for _ in range(min(seeds, len(request.pending)))]
            seeds -= len(taken)
            for given in request.alike(taken):
                task = Evaluation(
                    task_id=self._next_task_id,
                    seeds=given,
                    max_episode_steps=request.max_episode_steps,
                    member_id=request.member_id,
                )
                self._tasks[self._next_task_id] = _Task(request, actor, frozenset(given), set(given))
                self._next_task_id += 1
                tasks.append((task, request.players[given[0]]))
        return tasks

    def result(self, actor: ActorKey, episode: Episode) -> Literal["counts", "late", "wrong"]:
        """Record the returns of an evaluation episode, if it counts.

        Returns:
            "late" for an episode of a task that the actor has no more: honest actors play on what was taken back from
            them. "wrong" for one that no honest actor sends: of a task that nobody was given, of another actor's, of a
            seed that is not in it, or by other policies.
        """
        task = self._tasks.get(episode.task_id)
        if task is None:
            return "late" if 0 < episode.task_id < self._next_task_id else "wrong"
        if task.actor != actor or episode.seed not in task.given:
            return "wrong"
        if episode.policies != task.request.fingerprint(episode.seed):
            return "wrong"
        if episode.seed not in task.open:
            return "late"
        self._close(episode.task_id, task, episode.seed)
        task.request.results[episode.seed] = list(episode.returns)
        task.request.env_steps += min(episode.length, task.request.max_episode_steps)
        task.request.actors[episode.seed] = actor
        task.request.open_seeds -= 1
        return "counts"

    def fault(self, actor: ActorKey, task_id: int, seed: int) -> None:
        """Note that the environment raised on an evaluation seed.

        The seed is played again, or given up after MAX_FAULTS_PER_SEED errors.
        """
        task = self._tasks.get(task_id)
        if task is None or task.actor != actor or seed not in task.open:
            return
        self._close(task_id, task, seed)
        request = task.request
        request.faults[seed] = request.faults.get(seed, 0) + 1
        # The seed goes to the end of the queue: another actor may fare better with it.
        if request.faults[seed] < MAX_FAULTS_PER_SEED:
            request.pending.append(seed)
        else:
            request.open_seeds -= 1

    def _close(self, task_id: int, task: _Task, seed: int) -> None:
        """Mark a seed that an actor was given as answered; a task without further seeds is forgotten."""
        task.open.discard(seed)
        if not task.open:
            del self._tasks[task_id]

    def release(self, actor: ActorKey) -> int:
        """Take back the evaluation seeds that this actor has not answered, to be given out again.

        Returns their number.
        """
        count = 0
        for task_id, task in list(self._tasks.items()):
            if task.actor == actor:
                # `extendleft` reverses, so that the seeds come back in ascending order.
                task.request.pending.extendleft(sorted(task.open, reverse=True))
                count += len(task.open)
                del self._tasks[task_id]
        return count

    def pop_finished(self) -> Request | None:
        """Remove and return an evaluation whose seeds were all played or given up; None if there is none."""
        for i, request in enumerate(self._requests):
            if request.open_seeds == 0:
                return self._requests.pop(i)
        return None

    def open_of(self, member_id: int) -> tuple[int, list[str]]:
        """Return how many evaluation episodes of a member are missing, and the names of the actors that play some."""
        missing = sum(r.open_seeds for r in self._requests if r.member_id == member_id)
        playing = {t.actor[0] for t in self._tasks.values() if t.request.member_id == member_id}
        return missing, sorted(playing)

    def named_policies(self) -> Iterator[bytes]:
        """Iterate over the SHA-256 hashes of the policies with which evaluation seeds are still to be played."""
        playing = (r.players.values() for r in self._requests if r.open_seeds)
        return (ref.sha256 for line_ups in playing for line_up in line_ups for ref in line_up)

    def clear(self) -> None:
        """Forget all requested evaluations and the seeds given to actors, as the run has ended."""
        self._requests.clear()
        self._tasks.clear()
