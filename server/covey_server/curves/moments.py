"""What is looked at by the clock: the machine, losses, and training episodes since the last time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from covey.v1.population_service_pb2 import Status
from covey_server.curves.points import Curves


def give_moment(curves: Curves, status: Status, places: Mapping[int, int], agent_ids: Sequence[str]) -> None:
    """Give curves what is looked at by the clock; losses and training episodes are taken, and begin anew.

    Args:
        curves: The run's curves.
        status: Of the run, now.
        places: Each living member's place in the population, by its id.
        agent_ids: The environment's agents, in its order.
    """
    for values, member_id in curves.episodes.take(places, agent_ids):
        curves.give(values, member_id)
    by_name: dict[str, list[float]] = {}
    for member_id, means in curves.losses.take().items():
        if member_id in places:
            curves.give({f"place_{places[member_id]}/{name}": value for name, value in means.items()}, member_id)
            for name, value in means.items():
                by_name.setdefault(name, []).append(value)
    mean = {f"learn/{name}": sum(values) / len(values) for name, values in by_name.items()}
    curves.give(mean | _system(status))


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
