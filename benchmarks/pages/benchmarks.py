"""Write docs/benchmarks.md and its plots from docs/benchmarks.json: `python -m benchmarks.pages.benchmarks [--check]`.

benchmarks/suite.py makes the data. With --check nothing is written; the exit status is 1 if the page is not what the
data give, or a plot is missing. A benchmark that this page knows nothing of gets a table of what it printed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.pages import plots
from benchmarks.pages.aims import AIMS
from benchmarks.pages.benchmark_plots import PLOTS
from benchmarks.pages.benchmark_tables import FIGURES, Lines, figures, number, table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
DATA = ROOT / "docs" / "benchmarks.json"

HEAD = """# Benchmarks

What covey costs and how fast it is. Figures belong to the machine and the versions below; ratios travel better, and
those against AgileRL were taken in turn with it, run by run, in the same sitting. Env steps count every `step()` of one
environment, whatever the number of its agents; env steps/s are those of training over the wall time of the whole job,
with acting, learning, evaluation and evolution in it. Each process has one thread for its arithmetic.

Written from [benchmarks.json](benchmarks.json). `make bench` makes both, in about half an hour on two cores that have
nothing else to do; `PEER=PYTHON make bench` compares with AgileRL, if that Python has it, `PEER_SB3=PYTHON` with
stable-baselines3, `PEER_JAX=PYTHON` with JAX, and `.venv/bin/python benchmarks/suite.py NAME` repeats one.
"""

QUICK = """
**This was a trial of the suite (`--quick`), with everything shortened: its figures say nothing and are not to be
quoted.**
"""

ABOUT: dict[str, str] = {
    "time_to_score": "How long until what is trained plays well: IPPO, one member, in simple_spread as arrays, with "
    "one thread, beside other libraries in the same environment with the same numbers and layers. Every two seconds "
    "the policy is kept, and afterwards plays 400 unseen episodes; a score is reached where the next policy is above "
    "it too. Medians over three seeds.",
    "job_maddpg": 'The off-policy job of AgileRL\'s page "Multi-Agent Training": MADDPG, population 4, evolution on, '
    "8 environments (in every actor), an update for each 100 env steps of a member.",
    "job_ippo": "Its on-policy job: IPPO, population 4, rollouts of 2,048 env steps, 4 epochs.",
    "job_frequent_updates": "The off-policy job with an update for each 8 env steps, in both libraries.",
    "population_update": "One update of a whole population of equal members, `page` with the networks and batches of "
    "the page. `gflops` is the arithmetic of its matrix products over `ms_learning`: against what such products reach "
    "alone, it says how much could be gained at most without fewer of them.",
    "population_update_evolved": "The same after 20 generations of the page's mutations: members of many structures, "
    "on both sides, and mostly larger ones: an update has two to three times the arithmetic.",
    "population_update_two_threads": "The first again, with two threads on both sides, in wall time: what a learner "
    "has whose actors run on other machines.",
    "actor_loop": "A real actor process (policies, noise, rows, compression, streaming), and its collector alone, "
    "against the bare environment loop with actions drawn beforehand, in CPU time: what share of a core is left for "
    "the environment.",
    "actor_process": "A real actor process: resident memory, and time from its start to its first frame.",
    "latency": "From the end of an update to an action by the updated policy, on loopback.",
    "ingest": "What one learner core takes in: parsing, checks and decompression (`validation`), the append to the "
    "journal besides (`journal`), the insertion into replay besides (`replay`).",
    "wire": "Bytes of a transition on the wire, against pickled dictionaries of the same steps; `ratio` is pickled "
    "over wire.",
    "growth": "One learner process and synthetic actors that replay fragments, as fast as it takes them.",
    "growth_busy": "The same at a fixed rate, while the trainer updates without a pause.",
    "break_even": "The page's off-policy job in one process (`train_multi_agent_off_policy`), the same over "
    "environments in processes of their own, and over gRPC with local actors, in an environment that is cheap and in "
    "one of which every step costs `cost_ms` of computation more. More actors than cores only share them.",
}
"""What is measured; what an aim means, `benchmarks/pages/aims.py` says."""


def page(data: dict[str, Any]) -> str:
    """The whole page."""
    entries: dict[str, dict[str, Any]] = data["benchmarks"]
    text = HEAD + (QUICK if data["quick"] else "") + setting(data)
    if not data["quick"] and (rows := at_a_glance(entries)):
        text += "\n## At a glance\n\n" + table(["figure", "aim", "measured", "reached"], rows)
    return text + "".join(section(name, entry) for name, entry in entries.items())


def setting(data: dict[str, Any]) -> str:
    """The machine, the versions and the sittings."""
    m = data["machine"]
    rows = [["machine", f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}"]]
    rows += [["versions", ", ".join(f"{name} {version}" for name, version in data["versions"].items())]]
    entries = data["benchmarks"].values()
    rows += [["peer", peer] for peer in sorted({e["peer"] for e in entries if e["peer"]})]
    for date, commit, load in sorted({(e["date"], e["commit"], e["load"]) for e in entries}):
        rows.append(["sitting", f"{date}, covey {commit}, load before it {load}"])
    return "\n" + table(["", ""], rows)


def at_a_glance(entries: dict[str, dict[str, Any]]) -> list[list[str]]:
    """What was aimed at, and what came of it."""
    rows = []
    for aim in AIMS:
        lines = entries.get(aim.benchmark, {}).get("lines", [])
        value = aim.value(lines)
        if value is not None:
            reached = value >= aim.bound if aim.at_least else value <= aim.bound
            sign = "at least" if aim.at_least else "at most"
            row = [aim.figure, f"{sign} {number(aim.bound)}{aim.unit}", f"{number(value)}{aim.unit}"]
            rows.append([*row, "yes" if reached else "**no**"])
    return rows


def section(name: str, entry: dict[str, Any]) -> str:
    """One benchmark."""
    text = f"\n## {name}\n\n" + (f"{ABOUT[name]}\n\n" if name in ABOUT else "")
    if entry["error"]:
        text += f"Failed: {entry['error']}.\n\n"
    if drawn(name, entry["lines"]):
        text += f"![{name}]({plot_path(name).name})\n\n"
    if entry["lines"]:
        text += FIGURES.get(name, figures)(entry["lines"]) + "\n"
    return text + f"```sh\n.venv/bin/python {entry['command']}\n```\n"


def drawn(name: str, lines: Lines) -> bool:
    """Whether a benchmark has a plot."""
    return bool(lines) and name in PLOTS and PLOTS[name][0](lines)


def plot_path(name: str) -> Path:
    """Where it is."""
    return PAGE.with_name(f"benchmarks_{name}.png")


def main() -> None:
    """Write or compare."""
    data = json.loads(DATA.read_text())
    fresh = page(data)
    pictured = {name: e["lines"] for name, e in data["benchmarks"].items() if drawn(name, e["lines"])}
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(fresh)
        for name, lines in pictured.items():
            plots.save(PLOTS[name][1](lines), plot_path(name))
    elif not PAGE.exists() or PAGE.read_text() != fresh or not all(plot_path(name).exists() for name in pictured):
        sys.exit("docs/benchmarks.md is stale; run `.venv/bin/python -m benchmarks.pages.benchmarks`")


if __name__ == "__main__":
    main()
