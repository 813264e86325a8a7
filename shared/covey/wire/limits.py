"""Limits that actors and learner both keep to, such as message sizes, each with its unit and its reason.

proto/README.md, "Limits and refusals", lists them for people who write an actor of their own. What bounds the rows of
a fragment is in `covey.rows`, what bounds a network in `covey.networks`. This module imports nothing heavy.
"""

import re

OLDEST_PROTOCOL_VERSION, NEWEST_PROTOCOL_VERSION = 1, 2
"""Versions of the messages, and of what they mean, that this covey speaks; `covey.wire.versions` agrees on one."""

EPSILON_GREEDY_SINCE = 2
"""The first version whose actors know epsilon-greedy exploration."""

SQUASHED_SINCE = 2
"""The first version whose actors play policies that are squashed Gaussians."""

# -- actors ----------------------------------------------------------------------------------------------------------

ACTOR_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
"""An actor's name: it stands in logs, tables, file names and certificates, so it is short and plain."""

MAX_SLOTS = 4096
"""Training slots of one actor, and as many evaluation slots: each is a copy of the environment in its memory."""

MIN_HEARTBEAT_S, MAX_HEARTBEAT_S = 0.01, 3600.0
"""Seconds between two heartbeats: more often costs more than it tells, more seldom tells too late who is lost."""

# -- spaces ----------------------------------------------------------------------------------------------------------

MAX_AGENTS = 1024
"""Agents of an environment."""

MAX_ID_CHARACTERS = 128
"""Characters of an agent's id, which stands in column names, errors and tables."""

MAX_DIMS = 8
"""Dimensions of an array."""

MAX_DEPTH = 8
"""Levels of dictionaries and tuples in a space."""

MAX_LEAVES = 256
"""Arrays in a space that is a tree: each is a column of every fragment."""

MAX_NUMBERS = 1 << 22
"""Numbers in the Boxes of all agents together: equal bounds travel as one number, and a small message must not become
large tuples."""

MAX_CHOICES = 1 << 20
"""Values of a Discrete, of all choices of a MultiDiscrete together, or switches of a MultiBinary: outputs of a network,
one each."""

# -- messages --------------------------------------------------------------------------------------------------------

MAX_MESSAGE_BYTES = 4 << 20
"""Bytes of one gRPC message, either way."""

PART_BYTES = 1 << 20
"""Bytes of the largest part in which a fragment travels: one big message costs several times the CPU of its pieces."""

MAX_PARTS = 1024
"""Parts of one fragment."""

CHUNK_BYTES = 512 << 10
"""Bytes of a piece of a streamed policy or member."""

MAX_FETCHED_WITH = 128
"""Policies that one FetchPolicy call may ask for besides its first."""

MAX_REWARD = 1e12
"""Largest magnitude of the reward of one env step: squares of returns, which losses are made of, must stay far below
the largest float32, or one actor's reward makes the weights of every member infinite."""

MAX_SUMMED_REWARDS = 1000
"""So many of the largest rewards may be summed in a lead-in row, whatever its age."""

# -- orders and fragments --------------------------------------------------------------------------------------------

BUILTIN_RANDOM = "random"
"""The built-in policy, which draws uniformly from the legal actions."""

MAX_ORDER_STEPS = 4096
"""Env steps of one slot in one order, of training or of evaluation: bounds the time until an order is answered."""

MAX_COMPRESSION_LEVEL = 19
"""Highest zstd level for fragments; higher ones need more memory to decompress."""

MAX_EPISODE_STEPS = 100_000_000
"""Env steps of one episode that a fragment may report: weeks of play, and sums of many still fit every counter."""

MAX_WAIT_S = 1e8
"""Seconds that an actor may say it waited for an order or worked on it, about three years: a run may be paused."""

POLICY_PREFIX_BYTES = 16
"""Leading bytes of a policy's SHA-256 by which a finished episode says who played: enough to tell policies apart."""

MAX_FAULT_CHARACTERS = 500
"""Characters of what an environment raised, as a fragment reports it: one line for logs and tables."""

CACHED_POLICIES = 128
"""Policies that an actor keeps in memory: newer versions come all the time, and older ones are played for a while."""

CACHED_POLICY_BYTES = 64 << 20
"""Bytes of the files of policies that an actor keeps."""
