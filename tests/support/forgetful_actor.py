"""covey's own actor, but its streams begin without context rows: `python -m tests.support.forgetful_actor ...`."""

from __future__ import annotations

from typing import Any

from covey.cli import main
from covey.collect.fragment import FragmentBuilder


def forget(self: FragmentBuilder, stream: int, frames: Any) -> None:
    del self, stream, frames


FragmentBuilder._context = forget  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
