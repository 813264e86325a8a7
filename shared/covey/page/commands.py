"""`covey report` writes runs into one HTML file, `covey page` serves them to a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covey.cli.named_runs import named_runs
from covey.cli.run_names import RunNames
from covey.cli.terminal import say
from covey.errors import ConfigError

SUFFIXES = (".html", ".htm")

PORT = 8378


def register(app: typer.Typer) -> None:
    """Add the commands to the `covey` command line."""
    app.command()(report)
    app.command()(page)


def report(
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="The file to write.")] = Path("report.html"),
    runs: RunNames = None,
    picture: Annotated[
        bool,
        typer.Option("--picture/--no-picture", help="Film an episode of each best policy, where one can be drawn."),
    ] = True,
) -> None:
    """Write runs, or sweeps, into one HTML file: curves, lineage, settings, population, configurations.

    Several runs are compared: their curves in one picture each, and where their configurations differ.

    Example: covey report runs/spread-20261129-083642 --out report.html
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: expected a name that ends in .html")
    from covey.page.content import content, differing
    from covey.page.report import document, plotly_script
    from covey.run.files import cannot_write
    from covey.run.summary import summarise

    plotly_script()  # for its error, before anything is played
    paths = list(named_runs(runs or []))
    shown = [content(path, picture=picture) for path in paths]
    summaries = [summarise(path) for path in paths]
    tasks = {(s.environment, str(s.settings.get("environment.config"))) for s in summaries}
    if len(tasks) > 1:
        say(
            f"covey: these runs are of {len(tasks)} different tasks, whose scores say nothing beside each other",
            error=True,
        )
    text = document(shown, differing(summaries) if len(paths) > 1 else [])
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise cannot_write(out, exc) from exc
    for each in shown:
        for sentence in each["missing"]:
            say(f"covey: {each['name']}: not shown: {sentence}", error=True)
    say(f"{out}: {len(paths)} {'run' if len(paths) == 1 else 'runs'}, {len(text.encode()) / 1e6:.1f} MB")


def page(
    runs: RunNames = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of this machine; the next free one if it is taken.")
    ] = PORT,
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve runs, or sweeps, to a browser of this machine, until Ctrl-C: live while they are trained.

    Example: covey page runs/spread-20261129-083642
    """
    from covey.page.server import bound_socket, serve

    paths = list(named_runs(runs or []))
    with bound_socket(port) as listening:
        address = f"http://{listening.getsockname()[0]}:{listening.getsockname()[1]}/"
        if port and listening.getsockname()[1] != port:
            say(f"covey: port {port} is taken", error=True)
        say(f"{address} shows {', '.join(path.name for path in paths)}; Ctrl-C ends it")
        if browser:
            import webbrowser

            webbrowser.open(address)
        serve(paths, listening)
