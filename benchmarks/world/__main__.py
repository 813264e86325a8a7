"""Try the environments of the multi-agent world: `python -m benchmarks.world --folder FOLDER [NAME ...]`.

For each environment of the table: an environment of its own with what it needs, `covey check-env`, one generation by
IPPO and by MATD3 with a learner here and an actor there, the run resumed, evaluated and exported, its policy played.
Prints a JSON object for each as it is done, and at the end a Markdown table. NAME picks environments by a part of their
package's or own name. Packages come from the package index, once: FOLDER keeps them.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from benchmarks.world.page import markdown
from benchmarks.world.stages import Outcome, tried
from benchmarks.world.table import rows


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names; all environments if there are none")
    parser.add_argument("--folder", type=Path, required=True, help="where virtual environments and runs are kept")
    parser.add_argument("--jobs", type=int, default=2, choices=(1, 2), help="environments tried at a time")
    parser.add_argument("--limit-s", type=float, default=600.0, help="seconds that a stage may take")
    parser.add_argument("--list", action="store_true", help="print the table's names and end")
    args = parser.parse_args()
    chosen = [r for r in rows() if not args.names or any(n in f"{r.package} {r.label}" for n in args.names)]
    if args.list:
        print(*(f"{row.package}: {row.label}" for row in chosen), sep="\n")
        return
    # Rows that share an environment are tried one after another, so that it is made once.
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, row in enumerate(chosen):
        groups.setdefault((row.requires, row.beside_learner, row.images), []).append(i)
    found: dict[int, Outcome] = {}

    def try_group(group: list[int]) -> None:
        for i in group:
            found[i] = tried(chosen[i], args.folder.resolve(), args.limit_s)
            print(json.dumps(asdict(found[i])), flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        for done in as_completed([pool.submit(try_group, group) for group in groups.values()]):
            done.result()
    print(markdown([found[i] for i in range(len(chosen))]))


if __name__ == "__main__":
    main()
