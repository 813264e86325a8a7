"""Plain words for the counters and sizes that a learner reports by name: `--json` and `metrics.csv` have the names."""

from __future__ import annotations

COUNTED = {
    "evaluation_episodes": "evaluation episodes",
    "evaluation_void": "evaluation episodes that came too late or were other than asked for",
    "evaluations_taken_back": "evaluations taken from an actor that did not play them",
    "environment_fault": "errors of environments",
    "observations_outside": "observations outside of their space",
    "standstills": "times that the run stood still for longer than orders and updates explain",
    "versions_refused": "actors refused because they speak no protocol version in common",
    "stale_steps": "env steps of policies that were lost in a crash, played again",
    "members_diverged": "members whose weights or losses were not finite",
    "actors_lost": "actors that fell silent",
    "actors_replaced": "actors replaced by another process of their name",
    "actors_quarantined": "actors sent away for good",
    "orders_overdue": "orders to actors that were not answered in time",
    "answers_empty": "orders answered with none of the env steps asked for",
    "revoked_orders": "orders to actors that were taken back",
    "refused": "messages with experience that were refused",
    "duplicate": "messages with experience that came twice and counted once",
    "gap": "messages with experience that were missing and asked for again",
    "checksum": "messages with experience that came damaged and were asked for again",
    "damaged": "connections ended because something came damaged",
    "unauthenticated": "calls refused for want of a valid token",
    "forbidden": "calls refused because the token's role may not make them",
    "rate_limited": "calls refused because their host made too many",
    "disk_full": "times that the disk was full",
    "checkpoints_failed": "checkpoints that could not be written",
    "files_not_written": "times that status or curves could not be written",
    "housekeeping_failed": "errors in the learner's own housekeeping",
}
"""Plain words for each counter of a learner, by its name; a number follows them in the status."""

HELD = {
    "sessions": "actors known",
    "streams": "actors connected",
    "orders_out": "orders with actors",
    "frames_to_send": "messages on their way to actors",
    "updates_owed": "updates due, of the member that has most",
    "actor_outbox_fragments": "messages with experience that wait at actors",
    "actor_outbox_bytes": "size of the messages that wait at actors",
    "rss_bytes": "memory of the learner",
    "open_files": "open files and connections of the learner",
}
"""Plain words for each gauge of a learner (the present size of something), by its name."""

_REFUSED = "refused_"


def counted(name: str) -> str:
    """What a counter counts; for one that this version of covey does not know, its name."""
    if name not in COUNTED and name.startswith(_REFUSED):
        return f"of these for the reason {_spelt(name.removeprefix(_REFUSED))}"
    return COUNTED.get(name) or _spelt(name)


def held(name: str) -> str:
    """What a gauge is the size of; for one that this version of covey does not know, its name."""
    return HELD.get(name) or _spelt(name)


def _spelt(name: str) -> str:
    """A name of the protocol with blanks."""
    return name.replace("_", " ")
