"""What the experience that an algorithm learns from takes of the learner's memory: replay, or rounds."""

from __future__ import annotations

from dataclasses import dataclass

from covey.collect.collector import most_train_slots
from covey.config import Config
from covey.config.architecture import asks_for_memory, resolve
from covey.config.sections import FRAGMENT_STEPS
from covey.errors import ConfigError
from covey.networks.resolve import network_ids
from covey.rows import MAX_RAW_BYTES, MAX_ROWS, RowSchema
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


def planned_slots(config: Config, spaces: EnvironmentSpaces) -> int:
    """Return how many training slots an actor of a run will have: those asked for, or as many as fit its messages."""
    return max(1, min(config.train_slots, most_train_slots(spaces, RowSchema.of(spaces))))


def stream_steps(config: Config, spaces: EnvironmentSpaces) -> int:
    """Return how many env steps an actor sends of one environment at a time (a stream), as long as a run is new.

    Where env steps turn out to be cheap, more; at the end of a round or generation, fewer.
    """
    schema, slots = RowSchema.of(spaces), planned_slots(config, spaces)
    room = min(MAX_ROWS, (MAX_RAW_BYTES - slots * state_bytes(config, spaces)) // schema.row_bytes) // slots
    return max(1, min(config.actors.fragment_steps or FRAGMENT_STEPS, room - spaces.frame_stack))


def state_bytes(config: Config, spaces: EnvironmentSpaces) -> int:
    """Return the bytes of what all agents of an environment remember, which each stream begins with; 0 without memory.

    Raises:
        ConfigError: a `network` section that does not fit the environment.
    """
    if not asks_for_memory(config.network):
        return 0
    shared = config.algorithm.share_parameters
    own = {i: c.encoder_config for i, c in resolve(config.network, spaces, shared).items()}
    agents = network_ids(spaces, shared)
    return 4 * sum(len(agents[i]) * encoder.hidden_state_size for i, encoder in own.items() if encoder.recurrent)


def planned_rows(
    row_bytes: int, max_size: int, max_bytes: int, frame_stack: int = 1, steps: int = FRAGMENT_STEPS
) -> int:
    """How many rows of so many bytes a replay memory has, for `max_size` env steps within `max_bytes`.

    In replay an env step takes its step row and, where it ends an episode or a stream, one more; where observations are
    stacked, a stream of so many `steps` has up to `frame_stack` - 1 rows more.

    Raises:
        ConfigError: `max_bytes` is less than two rows.
    """
    streams = -(-max_size // steps)
    wanted = max_size + (max_size if row_bytes <= SMALL_ROW_BYTES else max(max_size // 8 + 2, streams))
    wanted += streams * (frame_stack - 1)
    rows = min(wanted, (max_bytes - PLACE_BYTES * max_size) // row_bytes)
    if rows < 2:
        raise ConfigError(
            f"replay_buffer.max_bytes: {max_bytes}, expected at least {2 * row_bytes + PLACE_BYTES * max_size} for "
            f"rows of {row_bytes} bytes and max_size {max_size}; raise max_bytes or lower max_size"
        )
    return rows


def planned_replay(config: Config, spaces: EnvironmentSpaces) -> Replay:
    """Return what a run's replay memory will have and hold.

    Raises:
        ConfigError: `replay_buffer.max_bytes` is less than two rows.
    """
    memory, row_bytes = config.replay_buffer, replay_row_bytes(spaces)
    steps = stream_steps(config, spaces)
    rows = planned_rows(row_bytes, memory.max_size, memory.max_bytes, spaces.frame_stack, steps)
    held = min(memory.max_size, max(1, rows * steps // (steps + spaces.frame_stack)))
    return Replay(row_bytes, rows, held, rows * row_bytes + PLACE_BYTES * memory.max_size)


def round_bytes(config: Config, spaces: EnvironmentSpaces) -> int:
    """Return the bytes of one member's round as actors send it.

    Rows of its env steps, of each stream the last one once more, and what a stream that goes on with an episode begins
    with: frames for stacks, and what agents remember. Episodes that end have a row more.
    """
    asked = config.algorithm.learn_step
    steps = min(asked, stream_steps(config, spaces))
    streams = -(-asked // steps)
    rows = asked + streams * spaces.frame_stack
    return rows * RowSchema.of(spaces).row_bytes + streams * state_bytes(config, spaces)


def experience_bytes(config: Config, spaces: EnvironmentSpaces) -> int:
    """Return the bytes that the experience of all members takes when there is most of it.

    Raises:
        ConfigError: the configured size holds nothing.
    """
    if config.algorithm.learns_from == "replay":
        return planned_replay(config, spaces).bytes
    # Every member may have collected a whole round before the first of them learns; before that, what policies
    # remembered is computed for every decision.
    remembered = config.algorithm.learn_step * state_bytes(config, spaces)
    return config.training.pop_size * int(ROUND_COPIES * round_bytes(config, spaces) + remembered)
