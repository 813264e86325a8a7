"""The progress bar of library users' training loops."""

from __future__ import annotations

from typing import Protocol

from covey.errors import ConfigError


class ProgressBar(Protocol):
    """What a training loop does with its bar."""

    def update(self, n: float | None = 1) -> bool | None:
        """So many steps were made."""
        ...

    def write(self, s: str) -> None:
        """Print above the bar."""
        ...

    def close(self) -> None:
        """The bar is done."""
        ...


def default_progress_bar(max_steps: int) -> ProgressBar:
    """A bar on stderr that is full after `max_steps` env steps.

    Raises:
        ConfigError: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as exc:
        raise ConfigError("progress bar: tqdm is not installed; pip install 'covey-marl[learner]'") from exc
    bar: ProgressBar = tqdm(total=max_steps, unit="step", unit_scale=True, dynamic_ncols=True)
    return bar
