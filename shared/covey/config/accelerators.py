"""What training loops in Python take of an `accelerate.Accelerator`: its device, as long as it is of one process."""

from __future__ import annotations

from typing import Any

from covey.errors import ConfigError


def check_accelerator(accelerator: Any) -> None:
    """Refuse an accelerator of several processes: one process trains the whole population.

    Args:
        accelerator: An `accelerate.Accelerator`, or None.

    Raises:
        ConfigError: it has more than one process, or is something else.
    """
    if accelerator is None:
        return
    processes = getattr(accelerator, "num_processes", None)
    if not isinstance(processes, int) or not hasattr(accelerator, "device"):
        raise ConfigError(
            f"accelerator: {type(accelerator).__name__}, expected an accelerate.Accelerator; leave it out to train on "
            "the device given"
        )
    if processes > 1:
        raise ConfigError(
            f"accelerator: {processes} processes, expected 1, which trains the whole population; start the script "
            "without `accelerate launch`, or with --num_processes 1"
        )


def device_of(accelerator: Any, device: Any) -> Any:
    """The accelerator's device; the given one without an accelerator.

    Raises:
        ConfigError: as of `check_accelerator`.
    """
    check_accelerator(accelerator)
    return device if accelerator is None else accelerator.device
