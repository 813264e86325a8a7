"""Commands that read a configuration need pydantic 2; actors run beside older versions, and these commands say so."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

NEEDED = "2.7"
"""The oldest pydantic with which configurations are read."""


def asks_for_pydantic(exc: BaseException) -> str:
    """What to do if importing covey's configuration failed for want of a newer pydantic; "" if it is not that."""
    if not isinstance(exc, ImportError) or (exc.name or "").partition(".")[0] not in ("pydantic", "pydantic_core"):
        return ""
    try:
        found = f"pydantic {version('pydantic')} is installed"
    except PackageNotFoundError:
        found = "pydantic is not installed"
    return (
        f"{found}, expected {NEEDED} or newer, with which configurations are read; run this command where that is "
        "installed (an actor needs none of it)"
    )
