"""The adapters that there are: covey's own, and those of other packages by their entry points."""

from __future__ import annotations

import functools
import logging
from importlib.metadata import entry_points
from typing import Any

from covey.envs.adapters.adapter import Adapter
from covey.envs.adapters.gymnasium_env import (
    DictAgents,
    SingleAgent,
    TupleAgents,
    recognise_dict,
    recognise_single,
    recognise_tuple,
)
from covey.envs.adapters.jaxmarl_env import JaxMARLCopies, recognise_jaxmarl
from covey.envs.adapters.marlenv_env import MARLEnvAgents, recognise_marlenv
from covey.envs.adapters.vmas_env import VMASCopies, recognise_vmas
from covey.errors import one_line

GROUP = "covey.adapters"

OWN = (
    Adapter(recognise_vmas, batched=VMASCopies),
    Adapter(recognise_jaxmarl, batched=JaxMARLCopies),
    Adapter(recognise_marlenv, parallel=MARLEnvAgents),
    Adapter(recognise_tuple, parallel=TupleAgents),
    Adapter(recognise_dict, parallel=DictAgents),
    Adapter(recognise_single, parallel=SingleAgent),
)
"""covey's own, in the order in which they are asked: any environment for several agents may look like one for one."""

logger = logging.getLogger("covey.envs")


def adapter_of(env: Any) -> tuple[Adapter, str] | None:
    """The first adapter that recognises an object, and what the object is in its words; None if none does.

    Those of other packages are asked before covey's own. One that does not load, or raises, is passed over with a
    warning.
    """
    for name, adapter in _strangers():
        try:
            words = adapter.recognise(env)
        except Exception as exc:  # a stranger's code may raise anything
            _passed_over(name, f"recognise raised {type(exc).__name__}: {one_line(str(exc), 300)}")
            continue
        if words:
            return adapter, words
    for adapter in OWN:
        if words := adapter.recognise(env):
            return adapter, words
    return None


@functools.cache
def _strangers() -> tuple[tuple[str, Adapter], ...]:
    """Adapters of other packages, by the names of their entry points."""
    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        try:
            adapter = entry.load()
        except Exception as exc:  # anything that a stranger's module raises when it is imported
            _passed_over(entry.name, f"{entry.value} does not load ({type(exc).__name__}: {one_line(str(exc), 300)})")
            continue
        if not isinstance(adapter, Adapter) or (adapter.parallel is None) == (adapter.batched is None):
            _passed_over(
                entry.name, f"{entry.value} is no covey.envs.adapters.Adapter with one of parallel and batched"
            )
            continue
        found.append((entry.name, adapter))
    return tuple(dict(found).items())


@functools.cache
def _passed_over(name: str, reason: str) -> None:
    logger.warning("adapter %s: %s; it is passed over, so repair or uninstall its package", name, reason)
