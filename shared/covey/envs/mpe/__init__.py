"""The nine classical MPE tasks as arrays: many copies of one are stepped together, with the numbers of mpe2."""

TASKS = (
    "simple_v3",
    "simple_adversary_v3",
    "simple_crypto_v3",
    "simple_push_v3",
    "simple_reference_v3",
    "simple_speaker_listener_v4",
    "simple_spread_v3",
    "simple_tag_v3",
    "simple_world_comm_v3",
)
"""The tasks, each a module of this package and, one copy at a time, of the package mpe2."""
