"""The outcomes as a Markdown table, and the sentences of what did not work below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.world.stages import ALGORITHMS, Outcome
from benchmarks.world.table import NOT_INSTALLABLE

STAGES = ("resumed", "evaluated", "exported", "played")


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table; a cell is `yes`, `no` where a sentence below says why, or `-` where it was not tried.

    In the column "and then": what worked with the run of the first algorithm: resumed, evaluated, exported, played.
    """
    known = ("interface", "encoders", "bytes a row", "env steps/s", "in a run")
    heads = ("environment", "package", *known, "check-env", *ALGORITHMS, "and then")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for o in outcomes:
        cells = [f"`{o.environment}`", f"{o.package} {o.version}".strip(), o.interface or "-"]
        cells += [", ".join(o.encoders) or "-", "-" if o.row_bytes is None else f"{o.row_bytes:,}"]
        cells += [f"{rate:,.0f}" if rate else "-" for rate in (o.steps_per_s, o.trained_steps_per_s)]
        cells += [_cell(o.check), *(_cell(o.trained.get(a, "")) for a in ALGORITHMS)]
        cells.append(_then(o))
        lines.append(f"| {' | '.join(cells)} |")
    worked = sum(o.check == "yes" and any(t == "yes" for t in o.trained.values()) for o in outcomes)
    count = f"{len(outcomes)} tried, {sum(o.check == 'yes' for o in outcomes)} taken by check-env, {worked} trained."
    reasons = [f"- `{o.environment}` ({what}): {why}" for o in outcomes for what, why in _reasons(o)]
    missing = [f"- {package}: {why}" for package, why in NOT_INSTALLABLE.items()]
    return "\n".join([*lines, "", count, "", *reasons, "", "Not tried:", "", *missing])


def _cell(text: str) -> str:
    return text if text == "yes" else "no" if text else "-"


def _then(o: Outcome) -> str:
    """`yes` if all stages worked, else those that did."""
    worked = [stage for stage in STAGES if getattr(o, stage) == "yes"]
    return "yes" if len(worked) == len(STAGES) else ", ".join(worked) or "-"


def _reasons(o: Outcome) -> Iterator[tuple[str, str]]:
    """Yield name and reason of each stage that did not work in an environment."""
    texts = {"install": o.installed, "check-env": o.check, **o.trained, **{s: getattr(o, s) for s in STAGES}}
    yield from ((what, why) for what, why in texts.items() if why not in ("", "yes"))
