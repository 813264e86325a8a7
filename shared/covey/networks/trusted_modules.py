"""Which functions this process may call to make a `torch.nn.Module`, and torch, which shared code never imports itself.

A policy file names the function that makes its module. Calling it runs code, with arguments from the file; so a process
calls only what its owner trusts: the configuration that the owner trains by, `covey actor --allow-module`, the
`modules` of `covey.load_policy`. It is decided from the name, before anything is imported.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from importlib.metadata import entry_points
from typing import Any

from covey.errors import ConfigError, one_line

ENTRY_POINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""package.module:function, by which a module's function is named."""

GROUP = "covey.ops"

_trusted: list[str] = []


def trust(*patterns: str) -> None:
    """Let this process call functions that make modules.

    Args:
        patterns: "package.module:function", or "package.module" for all functions there; `*` stands for anything.
    """
    _trusted.extend(p for p in patterns if p not in _trusted)


def check_trusted(module: str) -> None:
    """Refuse a module whose function this process may not call.

    Args:
        module: "package.module:function".

    Raises:
        ConfigError: it may not; says how to allow it.
    """
    names = (module, module.partition(":")[0])
    if not ENTRY_POINT.fullmatch(module):  # advice that somebody pastes into a shell holds nothing but a name
        raise ConfigError(f"module {one_line(module, 80)!r}: expected package.module:function, which makes a network")
    if not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in _trusted):
        raise ConfigError(
            f"module {module!r}, which makes a network, is not among those allowed here "
            f"({', '.join(_trusted) or 'none'}); if you trust it, start an actor with --ops torch --allow-module "
            f"{module}, or give covey.load_policy or Agent.load modules=[{module!r}]"
        )


@functools.cache
def torch_ops(whose: str) -> Any:
    """Return the operations of layers in torch, which the learner's side has registered as `covey.ops`.

    Args:
        whose: What needs them, for the error.

    Raises:
        ConfigError: torch is not installed here, or does not load.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    try:
        return found["torch"].load()()
    except (KeyError, ImportError, OSError) as exc:
        raise ConfigError(
            f"{whose} needs torch, which does not load here ({type(exc).__name__}: {one_line(str(exc), 200)}); "
            "install it with pip install 'covey-marl[learner]'"
        ) from exc
