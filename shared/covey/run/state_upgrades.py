"""The state of older checkpoints, brought to the form that is written now: a learner resumes runs of older formats.

Format 3, the newest: `{"run", "scheduler", "experience", "sessions", "totals", "lineage", "members"}`, where each part
but "members" has a "version" of its own and is read by the module that wrote it.
Format 2 (covey up to November 2026): the same numbers in one flat object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from covey.errors import StorageError

State = dict[str, Any]

FORMAT = 3
"""What is written."""


def upgraded(path: str, version: object, state: State) -> State:
    """A checkpoint's state in the newest format.

    Args:
        path: Of the manifest, for errors.
        version: The format that the manifest names.
        state: What was written.

    Raises:
        StorageError: a format newer or older than can be read, or a state that is not of its format.
    """
    if version == FORMAT:
        return state
    if not isinstance(version, int) or version not in _STEPS:
        raise StorageError(
            f"{path}: format {version!r}, expected {min(_STEPS)} to {FORMAT}; resume with the version of covey that "
            "wrote it"
        )
    try:
        for step in range(version, FORMAT):
            state = _STEPS[step](state)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise StorageError(
            f"{path}: its state is not one of format {version} ({type(exc).__name__} {exc}); resume with the version "
            "of covey that wrote it"
        ) from exc
    return state


def check_version(part: str, state: Mapping[str, Any], newest: int) -> None:
    """Refuse a part of a state that a newer covey wrote: what it says may mean something else.

    Args:
        part: Its name in the state.
        state: What was written.
        newest: The newest version that the reader knows; older ones it reads too.

    Raises:
        StorageError: a newer version.
        KeyError, TypeError: no version is there.
    """
    if state["version"] > newest:
        raise StorageError(
            f"checkpoint: its part {part!r} is of version {state['version']}, expected at most {newest}; update covey"
        )


def _from_2(state: Mapping[str, Any]) -> State:
    """Flat state to one object for each part."""
    ledgers = {}
    for member_id, (quota, accepted, limit, round_start, held, generation) in state["ledger"].items():
        ledgers[member_id] = {
            "quota": quota,
            "limit": limit,
            "generation": generation,
            "round_start": round_start,
            "accepted": accepted,
            "held": bool(held),
        }
    # Only runs that learn from rounds named members there, all of them.
    in_rounds = bool(state["rounds"])
    experience = {"rounds": state["rounds"]} if in_rounds else {"row": state["replay_row"]}
    run = ("config", "spaces", "epoch", "generation", "journal", "superseded", "best_member", "target_streak")
    return {
        "run": {"version": 1, **{name: state[name] for name in run}, "needed_from": state["replay_from"]},
        "scheduler": {
            "version": 1,
            "orders_in_generation": state["orders_in_generation"],
            "steps_accepted": state["totals"]["env_steps"],
            "ledgers": ledgers,
            "orders": state["outstanding"],
        },
        "experience": {"version": 1, **experience},
        "sessions": {"version": 1, "sessions": state["sessions"]},
        "totals": {"version": 1, **state["totals"]},
        "lineage": {"version": 1, **state["lineage"]},
        "members": state["members"],
    }


_STEPS: dict[int, Callable[[State], State]] = {2: _from_2}
"""By format: from its state to that of the next one."""
