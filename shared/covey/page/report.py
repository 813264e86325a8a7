"""`covey report`'s file: the page with its script, style and data in it, which opens from a disk without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from covey.errors import ConfigError

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What the browser is to allow a report: nothing from anywhere else."""


def document(runs: Sequence[Mapping[str, Any]], differing: Sequence[str]) -> str:
    """Put runs into one HTML document.

    Args:
        runs: What `content` gave of each.
        differing: Keys of the configuration in which they differ.

    Raises:
        ConfigError: plotly is not installed.
    """
    data = as_script({"runs": list(runs), "differing": list(differing)})
    scripts = [
        f"<script>{plotly_script()}</script>",
        f'<script type="application/json" id="data">{data}</script>',
        f"<script>{part('page.js')}{part('views.js')}</script>",
    ]
    return filled(
        {
            "policy": f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            "style": f"<style>{part('page.css')}</style>",
            "scripts": "\n".join(scripts),
        }
    )


def part(name: str) -> str:
    """A file of this package as a text."""
    return (files("covey.page") / name).read_text(encoding="utf-8")


def as_script(value: Any) -> str:
    """JSON that may stand in a `script` element: no text in it can end the element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")


def plotly_script() -> str:
    """The script of plotly, from its Python package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as exc:
        raise ConfigError("charts need plotly: pip install 'covey-marl[page]'") from exc
    return str(get_plotlyjs())


def filled(parts: Mapping[str, str]) -> str:
    """The page with these parts in their places, which follow each other as they do here."""
    text = part("page.html")
    before = ""
    for name, value in parts.items():  # one after the other, so that nothing in a part is taken for a place
        head, mark, text = text.partition(f"<!--{name}-->")
        assert mark, f"page.html has no place for {name}"
        before += head + value
    return before + text
