"""Which modules of networks an actor computes: those that its owner allows, by torch, loaded for them alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from covey.errors import ConfigError, one_line
from covey.networks.encoders import known_kinds
from covey.networks.torch_module import TorchModule
from covey.networks.trusted_modules import ENTRY_POINT, check_trusted, torch_ops, trust


def allow_modules(named: Iterable[str], ops: str, allowed: Sequence[str]) -> None:
    """Let this process make the modules that its owner allows, and check those that the learner's networks have.

    Args:
        named: Functions that make modules, as the learner describes its run.
        ops: "torch" if the owner lets the actor load it, else "numpy".
        allowed: The owner's patterns of functions.

    Raises:
        ConfigError: one of them is not allowed here, or torch is missing.
    """
    if ops == "torch":
        torch_ops("--ops torch")
        trust(*allowed)
    for module in named:
        if ops != "torch":
            how = f" --allow-module {module}" if ENTRY_POINT.fullmatch(module) else ""
            raise ConfigError(
                f"module {one_line(module, 80)!r} of the run's networks needs torch, which this actor does not load; "
                f"if you trust it, start with --ops torch{how}"
            )
        check_trusted(module)


def computed_kinds(ops: str) -> list[str]:
    """Return the kinds of encoder that this actor computes, for the learner."""
    return [kind for kind in known_kinds() if ops == "torch" or kind != TorchModule.kind]
