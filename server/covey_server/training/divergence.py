"""Members that have diverged: told, counted, and what was finite of them last kept for looking at."""

from __future__ import annotations

import math

from covey.errors import StorageError
from covey.run.files import cannot_write
from covey_server.learner import Learner
from covey_server.member import Member
from covey_server.population import Population


class Divergence:
    """Tells of members whose losses or weights are not finite any more; called by the trainer thread alone.

    Such a member ranks last and has no children, so that its generation's end replaces it by a child of another.

    Args:
        learner: Gets the events; its run's directory gets the policies.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._told: set[tuple[int, str]] = set()

    def look(self, population: Population, losses: dict[int, dict[str, float]]) -> None:
        """Log an event for each member with losses or weights that are not finite, the first time that it is seen.

        Of a member whose weights are not finite the last finite policies are written to the run's directory.

        Args:
            population: The population.
            losses: Newly read losses by member id and name; empty where none were read.
        """
        for member_id, values in losses.items():
            wrong = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
            if wrong and self._is_news(member_id, "losses"):
                self._tell(population, member_id, f"has losses that are not finite ({', '.join(wrong)})")
        for member_id, updates in list(population.policies.diverged.items()):
            if self._is_news(member_id, "weights"):
                self._learner.count("members_diverged")
                self._keep(population, member_id)
                what = f"has diverged: its weights are not finite after {updates:,} updates"
                self._tell(population, member_id, f"{what}; the next generation has a child of another in its place")

    def _is_news(self, member_id: int, what: str) -> bool:
        """Whether this is told of the member for the first time."""
        if (member_id, what) in self._told:
            return False
        self._told.add((member_id, what))
        return True

    def _tell(self, population: Population, member_id: int, what: str) -> None:
        """Log an event that names a member with its hyperparameters."""
        member: Member | None = next((m for m in population.members if m.member_id == member_id), None)
        numbers = {} if member is None else member.hyperparameters.numbers()
        named = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self._learner.event(f"member {member_id} ({named}) {what}")

    def _keep(self, population: Population, member_id: int) -> None:
        """Write the member's policies that were finite last, as policy files, into the run's directory."""
        folder = self._learner.run.diverged / f"member_{member_id}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for network_id, data in population.policies.files(member_id).items():
                (folder / f"{network_id}.safetensors").write_bytes(data)
        except OSError as exc:
            # They are for people to look at; training needs none of them.
            error: StorageError = cannot_write(folder, exc)
            self._learner.event(str(error))
