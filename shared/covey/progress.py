"""The progress bar of training loops in Python."""

from __future__ import annotations

from typing import Any, Protocol

from covey.config.accelerators import check_accelerator
from covey.errors import ConfigError


class ProgressBar(Protocol):
    """The methods of a progress bar that a training loop calls."""

    def update(self, n: float | None = 1) -> bool | None:
        """Advance the bar by `n` steps."""
        ...

    def write(self, s: str) -> None:
        """Print a line above the bar."""
        ...

    def close(self) -> None:
        """Leave the bar as it stands; nothing is drawn any more."""
        ...


def default_progress_bar(max_steps: int, accelerator: Any = None) -> ProgressBar:
    """A bar on stderr that is full after `max_steps` env steps.

    Args:
        max_steps: Number of env steps.
        accelerator: An `accelerate.Accelerator` of one process, or None; the bar is the same.

    Raises:
        ConfigError: tqdm is not installed, or the accelerator has several processes.
    """
    check_accelerator(accelerator)
    try:
        from tqdm import tqdm
    except ImportError as exc:
        raise ConfigError("progress bar: tqdm is not installed; pip install 'covey-marl[learner]'") from exc
    bar: ProgressBar = tqdm(total=max_steps, unit="step", unit_scale=True, dynamic_ncols=True)
    return bar
