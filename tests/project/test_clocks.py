"""Durations and ages are taken from clocks that nobody sets: a machine whose time of day jumps loses no actor by it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIME_OF_DAY = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime", "ctime"}
ALLOWED = {
    ("server/covey_server/curves/services.py", "time"): "MLflow dates what it is given",
    ("server/covey_server/security/tls.py", "now"): "certificates end at a time of day",
    ("shared/covey/cli/certs.py", "now"): "certificates begin and end at a time of day",
    ("shared/covey/cli/sources.py", "time"): "the age of a file, for people",
    ("shared/covey/run/summary.py", "time"): "the age of a run's files, for people",
}


def test_only_what_is_dated_asks_for_the_time_of_day() -> None:
    found = set()
    for folder in ("shared/covey", "server/covey_server", "actor_client/covey_actor"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in TIME_OF_DAY:
                        if ast.unparse(value).rpartition(".")[2] in ("time", "datetime", "date"):
                            found.add((str(file.relative_to(ROOT)), name))
                    case ast.ImportFrom(module="time", names=names):
                        assert not TIME_OF_DAY & {n.name for n in names}, file
                    case _:
                        pass
    assert found == set(ALLOWED)
