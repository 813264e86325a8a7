"""What is looked at by the clock: the machine, losses, and training episodes since the last time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from covey.v1.population_service_pb2 import Status
from covey_server.curves.points import Points
from covey_server.curves.recent_losses import RecentLosses
from covey_server.curves.training_episodes import TrainingEpisodes


def add_moment(
    points: Points,
    wall_s: float,
    status: Status,
    losses: RecentLosses,
    episodes: TrainingEpisodes,
    places: Mapping[int, int],
    agent_ids: Sequence[str],
) -> None:
    """Add what curves show of this moment.

    Args:
        points: Take it.
        wall_s: Seconds of training.
        status: Of the run, now.
        losses: Members' losses, which are taken.
        episodes: Training episodes, which are taken.
        places: Each living member's place in the population, by its id.
        agent_ids: The environment's agents, in its order.
    """
    for values, member_id in episodes.take(places, agent_ids):
        points.add(wall_s, status.env_steps, values, member_id)
    taken = {member_id: means for member_id, means in losses.take().items() if member_id in places}
    by_name: dict[str, list[float]] = {}
    for member_id, means in taken.items():
        at = {f"place_{places[member_id]}/{name}": value for name, value in means.items()}
        points.add(wall_s, status.env_steps, at, member_id)
        for name, value in means.items():
            by_name.setdefault(name, []).append(value)
    mean = {f"learn/{name}": sum(values) / len(values) for name, values in by_name.items()}
    points.add(wall_s, status.env_steps, mean | _system(status))


def _system(status: Status) -> dict[str, float]:
    """The machine at work: rates, totals, who waits, counters and sizes."""
    values = {
        "env_steps_per_s": status.env_steps_per_s,
        "updates": status.updates,
        "members_per_pass": status.members_per_pass,
        "actor_wait_s": status.actor_wait_s,
        "learner_wait_s": status.learner_wait_s,
        "standstill_s": status.standstill_s,
        "staleness_updates": status.staleness_updates,
        "wire_bytes": status.wire_bytes,
        "raw_bytes": status.raw_bytes,
        "replay_env_steps": status.replay_env_steps,
        "actors": status.actors,
        "generation": status.generation,
    }
    values |= {f"counter/{name}": count for name, count in status.counters.items()}
    values |= {f"gauge/{name}": count for name, count in status.gauges.items()}
    return {f"system/{name}": float(value) for name, value in values.items()}
