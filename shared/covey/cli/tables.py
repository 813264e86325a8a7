"""Tables of a run's status, members and actors for people, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table

from covey.cli.counted import HELD, counted, held
from covey.cli.terminal import printable

WIDTH = 100

Answer = Mapping[str, Any]


class _PrintableConsole(Console):
    """A console in which only rich itself writes escape sequences: those in texts are shown."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is to be shown, which rich styles afterwards."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable(piece.text, keep="\n"), piece.style)


def plain_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console without markup: names come from environments and hosts, and may look like a style, or worse.

    Args:
        stderr: Whether it writes to standard error instead of standard output.
        quiet: Whether it writes nothing.
    """
    return _PrintableConsole(markup=False, emoji=False, stderr=stderr, quiet=quiet)


def printable_answer(value: Any) -> Any:
    """A JSON value with all its texts as one printable line each, so that none looks like a further row of a table."""
    match value:
        case str():
            return printable(value)
        case Mapping():
            return {printable(key): printable_answer(item) for key, item in value.items()}
        case list():
            return [printable_answer(item) for item in value]
    return value


def show(renderable: RenderableType) -> None:
    """Print a table to stdout, at most 100 columns wide."""
    console = plain_console()
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    console.print(renderable)


def status_table(status: Answer, *, threads: bool = False) -> RenderableType:
    """Make a table of a run's status, names and values, with its newest events below.

    Args:
        status: As `covey status --json` prints it.
        threads: Whether to list the queues, threads and tasks of its learner.
    """
    total = status["max_steps"] * status["population_size"]
    wire = f"{_bytes(status['wire_bytes'])} from actors, {_bytes(status['raw_bytes'])} unpacked"
    waits = f"actors {seconds_text(status['actor_wait_s'])} for orders, "
    waits += f"the learner {seconds_text(status['learner_wait_s'])} for experience"
    best = "none yet"
    if status["best_fitness"] is not None:
        best = f"{status['best_fitness']:.2f} (member {status['best_member']})"
    rows = [
        ("run", status["run_dir"] or status["run_name"]),
        ("state", f"{status['state']}, generation {status['generation']}, up {seconds_text(status['uptime_s'])}"),
        *_standstill(status),
        ("job", f"{status['algorithm']} on {status['environment']}, {status['population_size']} members"),
        ("env steps", f"{status['env_steps']:,} of {total:,}, {status['env_steps_per_s']:,.0f} per s"),
        ("evaluation", f"{status['eval_env_steps']:,} env steps more"),
        ("best fitness", best),
        ("updates", f"{status['updates']:,}, of {status['members_per_pass']:.2f} members at a time"),
        ("actors", str(status["actors"])),
        ("waited", waits),
        ("replay", f"{status['replay_env_steps']:,} env steps"),
        ("staleness", f"{status['staleness_updates']:.1f} updates between a policy and its experience"),
        ("received", wire),
    ]
    if memory := status["gauges"].get("rss_bytes"):
        rows.append(("memory", f"{_bytes(memory)} of the learner"))
    rows += [("so far", f"{counted(name)}: {n:,}") for name, n in sorted(status["counters"].items()) if n]
    if threads:
        rows += [
            ("now", f"{held(name)}: {_gauge(name, value)}")
            for name, value in sorted(status["gauges"].items(), key=_place)
        ]
        for thread in status.get("threads", []):  # an older learner does not tell
            rows += [(thread["kind"], f"{thread['name']}: {'alive' if thread['alive'] else 'ended'}")]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return Group(table, *(f"  {event}" for event in status["events"]))


def _standstill(status: Answer) -> list[tuple[str, str]]:
    """Rows of the status that say for how long and why a run stands still; none while it moves."""
    still_s = status.get("standstill_s")  # an older learner does not tell
    if not still_s:
        return []
    return [("stands still", f"for {seconds_text(still_s)}"), *(("", wait) for wait in status["waits"])]


def members_table(members: Sequence[Answer]) -> Table:
    """Make a table of the living population: steps, updates, fitness, hyperparameters, and origin of each member."""
    table = _table(
        "member>", "parent>", "born>", "env steps>", "updates>", "fitness>", "state", "hyperparameters", "how"
    )
    for m in members:
        table.add_row(
            *(str(m["member_id"]), _text(m["parent_id"]), str(m["generation"])),
            *(f"{m['env_steps']:,}", f"{m['updates']:,}", _fitness(m), m["state"]),
            *(_hyperparameters(m["hyperparameters"]), _how(m)),
        )
    return table


def lineage_table(members: Sequence[Answer]) -> Table:
    """Make a table of every population member that ever lived, oldest first."""
    table = _table("member>", "parent>", "born>", "died>", "env steps>", "fitness>", "how")
    for m in members:
        table.add_row(
            *(str(m["member_id"]), _text(m["parent_id"]), str(m["generation"]), _text(m["died_generation"])),
            *(f"{m['env_steps']:,}", _fitness(m), _how(m)),
        )
    return table


def actors_table(actors: Sequence[Answer]) -> Table:
    """Make a table of the actor processes that have joined the learner."""
    table = _table("actor", "state", "host", "slots>", "env steps>", "per s>", "waited>", "silent>", "RSS>", "refused>")
    for a in actors:
        table.add_row(
            *(a["actor_id"], a["state"], a["hostname"], _slots(a), f"{a['env_steps']:,}"),
            *(f"{a['env_steps_per_s']:,.0f}", seconds_text(a["wait_s"]), seconds_text(a["silent_s"])),
            *(_bytes(a["rss_bytes"]), str(a["refused"])),
        )
    return table


def _slots(actor: Answer) -> str:
    """An actor's training slots, and how many it was asked for if those are more; an older learner does not tell."""
    asked = actor.get("slots_asked") or 0
    return f"{actor['slots']} of {asked}" if actor["slots"] < asked else str(actor["slots"])


def _table(*headers: str) -> Table:
    """Make an empty table; columns whose header ends in ">" hold numbers and are aligned to the right."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in headers:
        number = header.endswith(">")
        table.add_column(
            header.rstrip(">"), justify="right" if number else "left", no_wrap=number, overflow="fold", min_width=3
        )
    return table


def _text(value: object) -> str:
    """Format a value as text, "-" for None."""
    return "-" if value is None else str(value)


def _fitness(member: Answer) -> str:
    """Format a member's fitness with its standard error, "-" if it was not evaluated."""
    if member["fitness"] is None:
        return "-"
    stderr = member["fitness_stderr"]
    return f"{member['fitness']:.2f}" + ("" if stderr is None else f" ±{stderr:.2f}")


def _hyperparameters(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value:.3g}" for name, value in values.items())


def _how(member: Answer) -> str:
    """Say how a population member came to be: the kind of mutation, and what it changed."""
    return f"{member['mutation']}: {member['change']}" if member["change"] else str(member["mutation"])


def _bytes(count: int) -> str:
    """Format a number of bytes in a unit that fits, such as MiB."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count} B"


def _place(gauge: tuple[str, int]) -> tuple[int, str]:
    """Sort gauges as `HELD` has them, unknown ones last."""
    return (list(HELD).index(gauge[0]) if gauge[0] in HELD else len(HELD), gauge[0])


def _gauge(name: str, value: int) -> str:
    """Format the value of a metric; if its name ends in "_bytes", in a unit that fits."""
    return _bytes(value) if name.endswith("_bytes") else f"{value:,}"


def seconds_text(seconds: float) -> str:
    """Format a duration in units that fit, such as minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours = minutes // 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{hours} h {minutes % 60} min"
