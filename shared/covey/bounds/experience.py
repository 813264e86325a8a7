"""What the experience that an algorithm learns from takes of the learner's memory: replay, or rounds."""

from __future__ import annotations

from dataclasses import dataclass

from covey.config import Config
from covey.config.sections import ReplayBuffer
from covey.errors import ConfigError
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces

SMALL_ROW_BYTES = 1024
"""Rows of up to this many bytes get two rows of memory per env step, larger ones an eighth more than one.

Two suffice even if every step ends an episode. Where rows are large few do, and memory is worth more.
"""

NOT_IN_REPLAY = ("kind", "active", "truncated", "age")
"""Columns of what actors send that replay does not store."""

AGENT_BYTES = 9
"""Bytes of a row in replay that it has per agent besides: the agent's part (1), and where its decision closes (8)."""

PLACE_BYTES = 8
"""Bytes of an env step in the list of rows that may be drawn."""

ROUND_COPIES = 1.25
"""What a round takes of memory while a member learns from it, in times of what came."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay memory of a run.

    Attributes:
        row_bytes: Bytes of a row. An env step takes one, and one more where it ends an episode or a message.
        rows: Rows that it has.
        steps: Most env steps that it holds.
        bytes: Bytes of memory when it is full.
    """

    row_bytes: int
    rows: int
    steps: int
    bytes: int


def replay_row_bytes(spaces: EnvironmentSpaces) -> int:
    """Return the bytes that a row takes in replay."""
    columns = RowSchema.of(spaces).columns
    stored = sum(c.row_bytes for c in columns if c.name.rpartition("/")[2] not in NOT_IN_REPLAY)
    reaches_back = int(spaces.frame_stack > 1)  # a number says how far a row's stack of frames does
    return stored + AGENT_BYTES * len(spaces.agents) + reaches_back


CONTEXT_STEPS = 32
"""Env steps of a stream by which the rows are planned that a stream repeats for stacks of frames."""


def planned_rows(row_bytes: int, max_size: int, max_bytes: int, frame_stack: int = 1) -> int:
    """How many rows of so many bytes a replay memory has, for `max_size` env steps within `max_bytes`.

    In replay an env step takes its step row and, where it ends an episode or a stream, one more; where observations are
    stacked, a stream has up to `frame_stack` - 1 rows more.

    Raises:
        ConfigError: `max_bytes` is less than two rows.
    """
    wanted = 2 * max_size if row_bytes <= SMALL_ROW_BYTES else max_size + max_size // 8 + 2
    wanted += max_size * (frame_stack - 1) // CONTEXT_STEPS
    rows = min(wanted, (max_bytes - PLACE_BYTES * max_size) // row_bytes)
    if rows < 2:
        raise ConfigError(
            f"replay_buffer.max_bytes: {max_bytes}, expected at least {2 * row_bytes + PLACE_BYTES * max_size} for "
            f"rows of {row_bytes} bytes and max_size {max_size}; raise max_bytes or lower max_size"
        )
    return rows


def planned_replay(spaces: EnvironmentSpaces, memory: ReplayBuffer) -> Replay:
    """Return what a replay memory will have and hold.

    Raises:
        ConfigError: `replay_buffer.max_bytes` is less than two rows.
    """
    row_bytes = replay_row_bytes(spaces)
    rows = planned_rows(row_bytes, memory.max_size, memory.max_bytes, spaces.frame_stack)
    return Replay(row_bytes, rows, min(memory.max_size, rows), rows * row_bytes + PLACE_BYTES * memory.max_size)


def experience_bytes(config: Config, spaces: EnvironmentSpaces) -> int:
    """Return the bytes that the experience of all members takes when there is most of it.

    Raises:
        ConfigError: the configured size holds nothing.
    """
    if config.algorithm.learns_from == "replay":
        return planned_replay(spaces, config.replay_buffer).bytes
    # Every member may have collected a whole round before the first of them learns.
    rows = config.training.pop_size * config.algorithm.learn_step
    return int(ROUND_COPIES * rows * RowSchema.of(spaces).row_bytes)
