"""The picture that `covey watch` shows of a run: progress, curves, population, actors, events, and keys to steer it."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from covey.cli.tables import printable_answer, seconds_text, show, status_table
from covey.errors import CoveyError, StorageError, UnreachableError
from covey.run.files import read_json
from covey.run.reports import ENDED

if TYPE_CHECKING:
    from covey.cli.sources import RunningLearner

Answer = Mapping[str, Any]

BLOCKS = "▁▂▃▄▅▆▇█"

EVENTS = 4
"""Newest events that are shown."""

MOST_ACTORS = 4

POLL_S = 0.1
"""Seconds after which a key that was pressed is noticed at the latest."""

LAST_WORDS_S = 3.0
"""Seconds that a learner may take from its last answer to its last status file."""

KEPT = 1000
"""Values of each curve that are kept."""

KEYS = "p pause or go on   c checkpoint   q quit (the run goes on)"


class Watched:
    """What a watcher has seen of a run so far: its curves grow as it looks."""

    def __init__(self) -> None:
        self.best: list[float] = []
        self.returns: list[float] = []
        self.message = ""

    def read(self, run_dir: str) -> None:
        """Read the curves until now, if the run's directory is on this machine."""
        from covey.run.curves import read_curves
        from covey.run.directory import RunDirectory

        with contextlib.suppress(StorageError):
            curves = read_curves(RunDirectory(Path(run_dir)))
            for name, values in (("fitness/best", self.best), ("train/return", self.returns)):
                if name in curves:
                    values[:] = curves[name].values[-KEPT:].tolist()


def watch(learner: RunningLearner, interval_s: float, console: Console) -> None:
    """Show the picture of a run until it ends or somebody presses q; the status stays on the screen afterwards.

    Raises:
        UnreachableError: the learner went away before it said that the run had ended.
    """
    watched = Watched()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        status: Answer | None = None
        while True:
            try:
                newest = learner.ask("status")
                members, actors = learner.ask("members")["members"], learner.ask("actors")["actors"]
            except UnreachableError:
                status = _as_it_ended(status)
                if status is None:
                    raise
                break
            status = newest
            watched.read(status["run_dir"])
            now, living, present = (printable_answer(each) for each in (status, members, actors))
            live.update(picture(now, living, present, watched, console.width, console.height), refresh=True)
            if status["state"] not in ("waiting", "training", "paused") or _waited(
                pressed, learner, status, watched, interval_s
            ):
                break
    show(status_table(printable_answer(status)))


def _as_it_ended(status: Answer | None) -> Answer | None:
    """What the files of a run say that was watched until its learner went away; None if it had not ended by then."""
    end = time.monotonic() + LAST_WORDS_S
    while status is not None and time.monotonic() < end:
        with contextlib.suppress(StorageError):
            written: Answer = read_json(Path(status["run_dir"]) / "status.json")
            if written.get("state") in ENDED:
                return written
        time.sleep(POLL_S)
    return None


def picture(
    status: Answer, members: Sequence[Answer], actors: Sequence[Answer], watched: Watched, width: int, height: int
) -> RenderableType:
    """Draw a run.

    Args:
        status: As `covey status --json` prints it.
        members: The living members.
        actors: Its actors.
        watched: Its curves.
        width: Columns of the screen.
        height: Its lines.
    """
    total = max(1, status["max_steps"] * status["population_size"])
    rate = status["env_steps_per_s"]
    left = f"{seconds_text((total - status['env_steps']) / rate)} left" if rate > 0 else "no steps now"
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(status["run_name"], style="bold")
    head.append(f"  {status['state']}", style="green" if status["state"] == "training" else "yellow")
    head.append(f"  {status['algorithm']} on {status['environment']}", style="dim")
    progress = Table.grid(padding=(0, 2, 0, 0), expand=True)
    progress.add_column(ratio=1)
    progress.add_column(no_wrap=True)
    figures = f"{status['env_steps'] / total:.0%}  {rate:,.0f} env steps/s  {left}"
    progress.add_row(ProgressBar(total=total, completed=min(total, status["env_steps"])), figures)
    best = "-" if status["best_fitness"] is None else f"{status['best_fitness']:.2f} (member {status['best_member']})"
    parts: list[RenderableType] = [head, progress]
    if status.get("standstill_s"):
        parts += [Text(f"stands still for {seconds_text(status['standstill_s'])}: {w}") for w in status["waits"]]
    columns = max(8, width - 46)
    parts += [
        _curve("best fitness", best, watched.best, columns),
        _curve("training return", f"{watched.returns[-1]:.2f}" if watched.returns else "-", watched.returns, columns),
        Text(f"generation {status['generation']}, {status['updates']:,} updates", style="dim"),
    ]
    # What is left of the screen, less headings, blank lines and the keys: half of it or more for the population.
    room = max(4, height - len(parts) - 7)
    shown_actors = actors[: min(MOST_ACTORS, room // 4)]
    events = status["events"][-min(EVENTS, room // 4) :]
    rows = max(1, room - len(shown_actors) - len(events))
    parts += [Text(""), _population(members, rows), Text(""), _actors(shown_actors, len(actors)), Text("")]
    parts += [Text(event, style="dim", no_wrap=True, overflow="ellipsis") for event in events]
    parts.append(Text(watched.message or KEYS, style="reverse", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as a line of blocks, newest last, of `width` characters at most; NaN leaves a gap."""
    if not values:
        return ""
    count = min(width, len(values))
    picked = [values[round(i * (len(values) - 1) / max(1, count - 1))] for i in range(count)]
    finite = [v for v in picked if v == v]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((v - low) * scale)] if v == v else " " for v in picked)


def _curve(name: str, value: str, values: Sequence[float], width: int) -> RenderableType:
    return Text(f"{name:<16} {value:<24} {sparkline(values, width)}", no_wrap=True, overflow="crop")


def _population(members: Sequence[Answer], rows: int) -> RenderableType:
    """The members, best first, with what differs between them."""
    varied = [
        name
        for name in (members[0]["hyperparameters"] if members else {})
        if len({m["hyperparameters"].get(name) for m in members}) > 1
    ]
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    for column in ("member", "parent", "fitness", ""):
        table.add_column(column, justify="right" if column else "left", no_wrap=True, header_style="dim")
    table.add_column("differs in", no_wrap=True, overflow="ellipsis", ratio=1, header_style="dim")
    table.add_column("state", no_wrap=True, header_style="dim")
    rated = sorted(members, key=lambda m: (m["fitness"] is None, -(m["fitness"] or 0.0)))
    scores = [m["fitness"] for m in rated if m["fitness"] is not None]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    for m in rated[:rows]:
        score, bar = "-", ""
        if m["fitness"] is not None:
            stderr = m["fitness_stderr"]
            score = f"{m['fitness']:.2f}" + ("" if stderr is None else f" ±{stderr:.2f}")
            bar = "█" * (1 + round(9 * (m["fitness"] - low) / (high - low)) if high > low else 10)
        own = " ".join(f"{name}={m['hyperparameters'][name]:.3g}" for name in varied if name in m["hyperparameters"])
        parent = "-" if m["parent_id"] is None else str(m["parent_id"])
        table.add_row(str(m["member_id"]), parent, score, bar, own, m["state"])
    if len(members) > rows:
        table.add_row("", "", "", "", f"and {len(members) - rows} more: covey members", "")
    return table


def _actors(actors: Sequence[Answer], count: int) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    table.add_column(f"{count} actors", no_wrap=True, overflow="ellipsis", ratio=1, header_style="dim")
    for column in ("state", "env steps/s", "waited"):
        table.add_column(column, justify="right", no_wrap=True, header_style="dim")
    for a in actors:
        row = (a["state"], f"{a['env_steps_per_s']:,.0f}", seconds_text(a["wait_s"]))
        table.add_row(f"{a['actor_id']} on {a['hostname']}", *row)
    return table


def _waited(pressed: int | None, learner: RunningLearner, status: Answer, watched: Watched, interval_s: float) -> bool:
    """Wait for the next look, and do what keys ask for; returns whether to stop watching."""
    end = time.monotonic() + interval_s
    while (left := end - time.monotonic()) > 0:
        if pressed is None:
            time.sleep(left)
            return False
        ready, _, _ = select.select([pressed], [], [], min(left, POLL_S))
        if not ready:
            continue
        match os.read(pressed, 1):
            case b"q" | b"":
                return True
            case b"p":
                paused = status["state"] == "paused"
                _steer(watched, learner.resume if paused else learner.pause, "goes on" if paused else "paused")
                return False
            case b"c":
                _steer(watched, learner.checkpoint, "checkpoint written")
                return False
    watched.message = ""
    return False


def _steer(watched: Watched, act: Any, done: str) -> None:
    """Tell the learner something; what it says stands in place of the keys until the next look."""
    try:
        act()
        watched.message = done
    except CoveyError as exc:
        watched.message = str(exc)


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """Keys as they are pressed, without Enter: the descriptor to read them from; None where there is no keyboard."""
    if not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
