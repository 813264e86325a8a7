"""`covey lineage --worth` shows what each kind of mutation gained, over one run or several together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from covey.cli import tables
from covey.cli.answers import understood
from covey.cli.named_runs import named_runs
from covey.cli.sources import Source, find_source
from covey.cli.terminal import say, say_json
from covey.errors import StorageError
from covey.experiments.statistics import FEWEST_RUNS
from covey.experiments.worth import Child, Worth, children_of, worth_of
from covey.wire.credentials import Credentials

FEWEST = FEWEST_RUNS
"""With fewer children the interval of a mean says next to nothing."""

MEANING = (
    "gain: fitness of children after their first generation, less that of their unchanged parents, or of exact copies "
    "of them, in the same evaluation"
)


def say_worth(names: Sequence[str], learner: str | None, credentials: Credentials, *, as_json: bool) -> None:
    """Print what each kind of mutation was worth.

    Args:
        names: Runs and sweeps that are taken together; none: the newest run.
        learner: Address of a learner that is asked instead.
        credentials: For learners that are asked.
        as_json: Whether to print JSON instead of a table.

    Raises:
        ConfigError: both runs and a learner are named, or several runs begin like a name.
        StorageError: a run or sweep does not exist or cannot be read, or no member has lived through a generation.
    """
    children: list[Child] = []
    runs = []
    for source in _sources(names, learner, credentials):
        with understood(source):
            children += children_of(source.ask("lineage")["members"])
        runs.append(str(source))
    if not children:
        raise StorageError(
            f"{', '.join(runs)}: no member has a parent, expected children that have lived through a generation; "
            "train for more generations (training.evo_steps below training.max_steps) with several members"
        )
    found = worth_of(children)
    notes = list(_notes(children, found))
    if as_json:
        say_json({"runs": runs, "kinds": [_as_json(w) for w in found], "notes": notes}, indent=2)
        return
    tables.show(tables.worth_table(found))
    for note in notes:
        say(note)


def _sources(names: Sequence[str], learner: str | None, credentials: Credentials) -> Iterator[Source]:
    """What answers questions about each of the runs, every run once."""
    if learner is not None:
        yield find_source(learner, names[0] if names else None, credentials)
        return
    for path in named_runs(names):
        yield find_source(None, str(path), credentials)


def _notes(children: Sequence[Child], found: Sequence[Worth]) -> Iterator[str]:
    """Sentences below the table of mutations: what a gain is, which children have none, where intervals are weak."""
    yield MEANING
    unknown = sum(not c.known for c in children)
    if unknown:
        yield (
            f"not known of {unknown} of {len(children)} children: their learner did not note the fitness after a "
            "child's first generation, as members are not evaluated together in steady state, or covey was older"
        )
    alone = sum(c.known and not c.diverged and c.gain is None for c in children)
    if alone:
        yield f"not compared: {alone} of {len(children)} children, of whose parents no copy went on"
    if any(w.compared < FEWEST for w in found):
        yield f"with fewer than {FEWEST} children compared, an interval says next to nothing"


def _as_json(worth: Worth) -> dict[str, object]:
    return {**asdict(worth), "gain": None if worth.gain is None else asdict(worth.gain)}
