"""The ledger of evaluation episodes: who must play which seeds, who is at it, and what came of it.

A request is one member's evaluation under pinned policies. Its seeds are handed out to actors as tasks; a lost actor's
unfinished seeds go back and are played again from their start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from covey.v1.fragment_pb2 import Episode
from covey.v1.order_pb2 import Evaluation, PolicyRef
from covey.wire.limits import POLICY_PREFIX_BYTES

ActorKey = tuple[str, int]
"""(actor id, incarnation)."""

MAX_FAULTS_PER_SEED = 3
"""An environment that raises this often on one seed is given up for it; the evaluation goes on without the seed."""


@dataclass(slots=True)
class Request:
    """One member's evaluation: seeds to play, and the returns of those that were played."""

    member_id: int
    purpose: str  # "fitness" or "confirm"
    policies: list[PolicyRef]  # per agent
    max_episode_steps: int
    pending: deque[int]
    results: dict[int, list[float]] = field(default_factory=dict)  # seed -> return per agent
    open_seeds: int = 0
    faults: dict[int, int] = field(default_factory=dict)

    @property
    def fingerprint(self) -> bytes:
        """What an Episode's `policies` must say: the first 16 bytes of each agent's sha256, zeros for a built-in."""
        return b"".join(ref.sha256[:POLICY_PREFIX_BYTES] or bytes(POLICY_PREFIX_BYTES) for ref in self.policies)


@dataclass(slots=True)
class _Task:
    request: Request
    actor: ActorKey
    open: set[int]


class Evaluations:
    """Requests in order of arrival, and the tasks made of them."""

    def __init__(self, first_task_id: int = 1) -> None:
        self._requests: list[Request] = []
        self._tasks: dict[int, _Task] = {}
        self._next_task_id = first_task_id

    def request(
        self,
        member_id: int,
        purpose: str,
        policies: Sequence[PolicyRef],
        seeds: Iterable[int],
        max_episode_steps: int,
    ) -> Request:
        """Ask for a member's evaluation on these seeds under these policies."""
        request = Request(member_id, purpose, list(policies), max_episode_steps, deque(seeds))
        request.open_seeds = len(request.pending)
        self._requests.append(request)
        return request

    @property
    def pending(self) -> bool:
        """Whether some seed waits for an actor."""
        return any(r.pending for r in self._requests)

    def unfinished(self, actor: ActorKey) -> int:
        """Seeds this actor was given and has not answered."""
        return sum(len(t.open) for t in self._tasks.values() if t.actor == actor)

    def take(self, actor: ActorKey, seeds: int) -> list[tuple[Evaluation, list[PolicyRef]]]:
        """Hand out up to so many seeds; each task comes with the policies that its agents play."""
        tasks = []
        for request in self._requests:
            if seeds <= 0:
                break
            given = [request.pending.popleft() for _ in range(min(seeds, len(request.pending)))]
            if not given:
                continue
            task = Evaluation(
                task_id=self._next_task_id,
                seeds=given,
                max_episode_steps=request.max_episode_steps,
                member_id=request.member_id,
            )
            self._tasks[self._next_task_id] = _Task(request, actor, set(given))
            self._next_task_id += 1
            seeds -= len(given)
            tasks.append((task, request.policies))
        return tasks

    def result(self, actor: ActorKey, episode: Episode) -> bool:
        """Enter an episode; False if nobody waits for it (another actor's, twice, or under other policies)."""
        task = self._tasks.get(episode.task_id)
        if task is None or task.actor != actor or episode.seed not in task.open:
            return False
        if episode.policies != task.request.fingerprint:
            return False
        self._close(episode.task_id, task, episode.seed)
        task.request.results[episode.seed] = list(episode.returns)
        task.request.open_seeds -= 1
        return True

    def fault(self, actor: ActorKey, task_id: int, seed: int) -> None:
        """The environment raised while playing this seed: play it again, but not for ever."""
        task = self._tasks.get(task_id)
        if task is None or task.actor != actor or seed not in task.open:
            return
        self._close(task_id, task, seed)
        request = task.request
        request.faults[seed] = request.faults.get(seed, 0) + 1
        if request.faults[seed] < MAX_FAULTS_PER_SEED:
            request.pending.append(seed)
        else:
            request.open_seeds -= 1

    def _close(self, task_id: int, task: _Task, seed: int) -> None:
        task.open.discard(seed)
        if not task.open:
            del self._tasks[task_id]

    def release(self, actor: ActorKey) -> int:
        """Take back what this actor has not answered; returns how many seeds."""
        count = 0
        for task_id, task in list(self._tasks.items()):
            if task.actor == actor:
                task.request.pending.extendleft(sorted(task.open, reverse=True))
                count += len(task.open)
                del self._tasks[task_id]
        return count

    def pop_finished(self) -> Request | None:
        """A request whose last seed has been answered, once."""
        for i, request in enumerate(self._requests):
            if request.open_seeds == 0:
                return self._requests.pop(i)
        return None

    def named_policies(self) -> Iterator[bytes]:
        """Hashes of the policies under which seeds are still to be played."""
        return (ref.sha256 for request in self._requests if request.open_seeds for ref in request.policies)

    def clear(self) -> None:
        """Forget everything (a run that ends)."""
        self._requests.clear()
        self._tasks.clear()
