"""covey's own actor, but its streams begin without context rows.

`python -m tests.support.forgetful_actor` takes the arguments of `python -m covey_actor`.
"""

from __future__ import annotations

import sys
from typing import Any

from covey.collect.fragment import FragmentBuilder
from covey_actor.__main__ import main


def forget(self: FragmentBuilder, stream: int, frames: Any) -> None:
    del self, stream, frames


FragmentBuilder._context = forget  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
