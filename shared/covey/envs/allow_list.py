"""Which environments an actor builds when a learner names them: decided from the name, before anything is imported."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from covey.envs.found_functions import ENTRY_POINT
from covey.envs.loading import present_name
from covey.envs.mpe import TASKS

ALWAYS_ALLOWED = "environments of pettingzoo, mpe2 and covey.envs.mpe"
"""The environments that every actor builds, in words."""

_LIBRARY_ENVIRONMENT = re.compile(
    r"(mpe2|pettingzoo\.(atari|butterfly|classic|sisl))\.[a-z0-9_]+_v[0-9]+(:(parallel_env|env|raw_env))?", re.ASCII
)
"""Entry points of these packages' environments.

Each of their environments is a module NAME_vNUMBER with these functions. Other modules of the same packages hold
functions that import what their arguments say, or write files.
"""

_OWN_ENVIRONMENTS = frozenset(
    f"covey.envs.mpe.{task}{function}" for task in TASKS for function in ("", ":parallel_env")
)


def allowed(entry_point: str, patterns: Sequence[str] = ()) -> bool:
    """Whether an actor may import an entry point that a learner has named, and call it with the learner's arguments.

    Args:
        entry_point: "package.module:function", or "package.module".
        patterns: What the actor's owner trusts besides the environments of pettingzoo, mpe2 and covey.envs.mpe: an
            entry point, or a module with all functions that it has, those too that it imported from elsewhere, and
            the gymnasium environments that its package registers. `*` spans dots.
    """
    if not ENTRY_POINT.fullmatch(entry_point):
        return False
    entry_point = present_name(entry_point)
    if _LIBRARY_ENVIRONMENT.fullmatch(entry_point) or entry_point in _OWN_ENVIRONMENTS:
        return True
    module = entry_point.partition(":")[0]
    return any(fnmatch.fnmatchcase(name, present_name(p)) for p in patterns for name in (module, entry_point))
