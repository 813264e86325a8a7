"""The outcomes as a Markdown table, and the sentences of what did not work below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.world.stages import ALGORITHMS, Outcome
from benchmarks.world.table import NOT_INSTALLABLE

STAGES = ("resumed", "evaluated", "exported", "played")


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table; a cell is `yes`, `no` where a sentence below says why, or `-` where it was not tried."""
    heads = ("environment", "package", "check-env", *ALGORITHMS, *STAGES)
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for o in outcomes:
        check = f"{o.steps_per_s:,.0f}/s" if o.check == "yes" else _cell(o.check)
        cells = [f"`{o.environment}`", f"{o.package} {o.version}".strip(), check]
        cells += [_cell(o.trained.get(a, "")) for a in ALGORITHMS]
        cells += [_cell(getattr(o, stage)) for stage in STAGES]
        lines.append(f"| {' | '.join(cells)} |")
    reasons = [f"- `{o.environment}` ({what}): {why}" for o in outcomes for what, why in _reasons(o)]
    missing = [f"- {package}: {why}" for package, why in NOT_INSTALLABLE.items()]
    return "\n".join([*lines, "", *reasons, "", "Not tried:", "", *missing])


def _cell(text: str) -> str:
    return text if text == "yes" else "no" if text else "-"


def _reasons(o: Outcome) -> Iterator[tuple[str, str]]:
    """Yield name and reason of each stage that did not work in an environment."""
    texts = {"install": o.installed, "check-env": o.check, **o.trained, **{s: getattr(o, s) for s in STAGES}}
    yield from ((what, why) for what, why in texts.items() if why not in ("", "yes"))
