"""What the benchmarks are held against on docs/benchmarks.md: a bound for each figure, and where the figure is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Aim:
    """A bound.

    Attributes:
        figure: What is measured, for readers.
        benchmark: Whose output holds it.
        bound: To be reached, or not to be exceeded.
        unit: Behind the number, with its blank.
        find: The figure in one printed line; None where that line has none.
        at_least: Whether more is better.
    """

    figure: str
    benchmark: str
    bound: float
    unit: str
    find: Callable[[dict[str, Any]], float | None]
    at_least: bool = True

    def value(self, lines: list[dict[str, Any]]) -> float | None:
        """The worst of the figures that the lines have; None where there are none."""
        found = [value for line in lines if (value := self.find(line)) is not None]
        return (min if self.at_least else max)(found) if found else None


def at(*path: str) -> Callable[[dict[str, Any]], float | None]:
    """What is at a path of keys."""

    def find(line: dict[str, Any]) -> float | None:
        value: Any = line
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return None if value is None else float(value)

    return find


def slowest(members: int) -> Callable[[dict[str, Any]], float | None]:
    """Of so many members, how many times faster they learn at once than one after the other, where it is least."""

    def find(line: dict[str, Any]) -> float | None:
        times = line.get("times_faster", {})
        found = [by[str(members)] for algorithms in times.values() for by in algorithms.values() if str(members) in by]
        return min(found, default=None)

    return find


def to_score(line: str, peer: str | None = None) -> Callable[[dict[str, Any]], float | None]:
    """Seconds until ours reaches a score, or how many times as long a peer takes."""

    def find(printed: dict[str, Any]) -> float | None:
        summary: dict[str, Any] = printed.get("summary", {})
        seconds = {name: (of.get(line) or {}).get("seconds") for name, of in summary.items()}
        ours = seconds.get("covey")
        if peer is None or ours is None:
            return ours
        its = next((value for name, value in seconds.items() if peer in name), None)
        return None if its is None else its / ours

    return find


AIMS: tuple[Aim, ...] = (
    Aim("IPPO in simple_spread: seconds to a score of -40", "time_to_score", 15, " s", to_score("to -40"), False),
    Aim("the same to -35", "time_to_score", 25, " s", to_score("to -35"), False),
    Aim("stable-baselines3's seconds to -40 over ours", "time_to_score", 2, "x", to_score("to -40", "sb3")),
    Aim("MADDPG, the page's settings: env steps/s against AgileRL", "job_maddpg", 8, "x", at("ratio")),
    Aim("IPPO, the page's settings: env steps/s against AgileRL", "job_ippo", 8, "x", at("ratio")),
    Aim("MADDPG, an update for 8 env steps, against AgileRL", "job_frequent_updates", 8, "x", at("ratio")),
    Aim("learning of 4 members at once against AgileRL's learn", "population_update", 15, "x", slowest(4)),
    Aim(
        "learning of 16 members at once against AgileRL's learn",
        "population_update",
        20,
        "x",
        slowest(16),
    ),
    Aim(
        "the same after 20 generations, 4 members",
        "population_update_evolved",
        8,
        "x",
        slowest(4),
    ),
    Aim(
        "the same after 20 generations, 16 members",
        "population_update_evolved",
        15,
        "x",
        slowest(16),
    ),
    Aim("one actor process: CPU time of the bare environment loop over its own", "actor_loop", 0.85, "x", at("ratio")),
    Aim("actor process, resident memory", "actor_process", 90, " MB", at("rss_mb"), at_least=False),
    Aim(
        "actor process, ready after its start but for importing the environment",
        "actor_process",
        0.6,
        " s",
        at("ready_without_environment_s"),
        at_least=False,
    ),
    Aim(
        "from an update to an action by it, beyond two fragments, p99",
        "latency",
        100,
        " ms",
        at("beyond_two_fragments_ms", "p99"),
        at_least=False,
    ),
    Aim("pickled dictionaries against bytes on the wire, where it is least", "wire", 4, "x", at("ratio")),
    Aim("ingest on one core, env-step rows a second", "ingest", 1_000_000, "", at("rows_per_s", "replay")),
    Aim(
        "ack p99 at 10,000 rows/s of 16 actors, the trainer busy",
        "growth_busy",
        50,
        " ms",
        at("ack_ms", "p99"),
        at_least=False,
    ),
)
