"""`covey status` says in words what a learner counts and holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from covey.cli import run
from covey.cli.counted import COUNTED, HELD, counted, held
from covey.run.files import write_json
from covey.run.reports import status_json
from covey.v1 import population_service_pb2 as pb

SERVER = Path(__file__).parents[3] / "server"


def test_everything_that_is_counted_or_held_has_words() -> None:
    """Names are literals in the sources; `refused_` and the reason follows `refused`."""
    sources = "\n".join(p.read_text() for p in SERVER.rglob("*.py"))
    counters = set(re.findall(r"""(?:\bcount\(|_count\(|counters\[)"([a-z_]+)"\]?\)?(?: [+=]|\n|\))""", sources))
    assert {"unauthenticated", "actors_lost", "disk_full", "evaluation_void", "rate_limited"} <= counters
    assert counters <= COUNTED.keys()
    report = (SERVER / "covey_server" / "serving" / "report.py").read_text()
    service = (SERVER / "covey_server" / "serving" / "actor_service.py").read_text()
    body = report[report.index("def _gauges") : report.index("def members")] + service[service.index("def gauges") :]
    gauges = set(re.findall(r'"([a-z_]+)": ', body))
    assert {"sessions", "frames_to_send"} <= gauges and gauges == HELD.keys()


def test_a_name_of_another_version_is_still_readable() -> None:
    assert counted("refused_not_finite") == "of these for the reason not finite"
    assert counted("cats_fed") == "cats fed" and held("cats_bytes") == "cats bytes"


def test_the_status_has_no_names_of_the_code_and_json_keeps_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = pb.Status(state="complete", run_name="job-1", run_dir="runs/job-1", actor_wait_s=8.3, learner_wait_s=2.8)
    status.counters.update({"unauthenticated": 1, "refused": 2, "gap": 0})
    status.gauges.update({"actor_outbox_bytes": 2048, "rss_bytes": 3 << 20, "orders_out": 4})
    write_json(tmp_path / "status.json", status_json(status))
    assert run(["status", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "waited        actors 8.3 s for orders, the learner 2.8 s for experience" in text
    assert "calls refused for want of a valid token: 1" in text and "memory        3.0 MiB of the learner" in text
    assert text.count("job-1") == 1 and "asked for again" not in text, "what never happened is not told"
    assert not re.search(r"[a-z]_[a-z]", text) and "orders with actors" not in text
    assert run(["status", str(tmp_path), "--debug"]) == 0
    text = capsys.readouterr().out
    assert "orders with actors: 4" in text and "size of the messages that wait at actors: 2.0 KiB" in text
    assert run(["status", str(tmp_path), "--json"]) == 0
    assert '"actor_outbox_bytes": 2048' in capsys.readouterr().out
