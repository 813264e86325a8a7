"""What the benchmarks print reaches docs/benchmarks.json and its page, also when one fails."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import suite
from benchmarks.pages import benchmarks

ROOT = Path(__file__).parents[2]


def job(ratio: float) -> dict[str, Any]:
    rounds = [{"env_steps_per_s": 8000.0 + i, "wall_s": 20.0} for i in range(2)]
    told = {"benchmark": "job", "algorithm": "MADDPG", "env_steps_per_s": 8000.5, "rounds": rounds}
    return told | {"peer": [1000.0, 1001.0], "ratio": ratio}


def growth(actors: int, p99: float) -> dict[str, Any]:
    return {"benchmark": "growth", "actors": actors, "ack_ms": {"p50": 1.0, "p99": p99}, "learner_rss_mb": [300] * 9}


def break_even(cost_ms: float) -> dict[str, Any]:
    rates = {"one process": 1000.0, "gRPC, 1 actor": 900.0}
    against = {"one process": 1.0, "gRPC, 1 actor": 0.9}
    return {"cost_ms": cost_ms, "env_steps_per_s": rates, "against_one_process": against}


def update() -> dict[str, Any]:
    by_size = {"1": 2.0, "16": 7.25}
    return {"device": "cpu", "ms_per_population_update": {"page": {"MADDPG": by_size, "MATD3": by_size}}}


def data(**entries: dict[str, Any]) -> dict[str, Any]:
    about = {"command": "benchmarks/some.py", "date": "2026-01-01", "commit": "abc", "load": 0.1, "peer": None}
    return {
        "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 8.0, "system": "Linux"},
        "versions": {"python": "3.11"},
        "quick": False,
        "benchmarks": {name: about | {"error": None, "lines": []} | entry for name, entry in entries.items()},
    }


def test_what_was_aimed_at_is_said_to_be_reached_or_not() -> None:
    text = benchmarks.page(
        data(
            job_maddpg={"lines": [job(8.26)]},
            job_ippo={"lines": [job(6.5)]},
            growth_busy={"lines": [growth(16, 12.0), growth(32, 50.5)]},
        )
    )
    assert "env steps/s against AgileRL | at least 8x | 8.26x | yes |" in text
    assert "env steps/s against AgileRL | at least 8x | 6.5x | **no** |" in text
    assert "at most 50 ms | 50.5 ms | **no** |" in text, "the worst line counts"
    assert "ingest" not in text


def test_a_benchmark_that_the_page_does_not_know_gets_a_table_of_what_it_printed() -> None:
    text = benchmarks.page(data(other={"lines": [{"benchmark": "other", "a": {"b": 1234.5}, "c": list(range(9))}]}))
    assert "| `a.b` | 1,234 |" in text
    assert "| `c` | 0 to 8 |" in text


def test_rounds_sizes_and_ways_to_run_are_rows_and_columns() -> None:
    assert "| 8,001 | 20 |" in benchmarks.page(data(job_maddpg={"lines": [job(8.26)]}))
    text = benchmarks.page(data(population_update={"lines": [update()]}))
    assert "| figure, setting, algorithm | 1 member | 16 members |" in text
    assert "| `ms_per_population_update`, page, MATD3 | 2 | 7.25 |" in text
    text = benchmarks.page(data(break_even={"lines": [break_even(0), break_even(2)]}))
    assert "|  | env steps/s, 0 ms | against one process, 0 ms | env steps/s, 2 ms |" in text
    assert "| gRPC, 1 actor | 900 | 0.9 | 900 | 0.9 |" in text


def test_failures_and_trials_are_on_the_page() -> None:
    text = benchmarks.page(data(wire={"error": "exit status 1"}) | {"quick": True})
    assert "Failed: exit status 1." in text
    assert "its figures say nothing" in text


def test_the_command_writes_page_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(benchmarks, "DATA", tmp_path / "benchmarks.json")
    told = data(
        job_maddpg={"lines": [job(8.26)]},
        growth={"lines": [growth(a, a / 2) for a in (1, 4, 16)]},
        break_even={"lines": [break_even(0), break_even(2)]},
        population_update={"lines": [update()]},
        wire={"lines": [{"ratio": 5.0}]},
    )
    benchmarks.DATA.write_text(json.dumps(told))
    monkeypatch.setattr("sys.argv", ["benchmarks.py"])
    benchmarks.main()
    names = [f"benchmarks_{name}.png" for name in ("break_even", "growth", "job_maddpg", "population_update")]
    assert [p.name for p in sorted(tmp_path.glob("*.png"))] == names
    assert all(f"]({name})" in benchmarks.PAGE.read_text() for name in names)
    monkeypatch.setattr("sys.argv", ["benchmarks.py", "--check"])
    benchmarks.main()
    (tmp_path / names[0]).unlink()
    with pytest.raises(SystemExit, match="stale"):
        benchmarks.main()


def test_every_script_is_in_the_suite_and_all_of_it_takes_half_an_hour() -> None:
    scripts = {p.stem for p in (ROOT / "benchmarks").glob("*.py")}
    assert {b.script for b in suite.SUITE.values()} | set(suite.LEFT_OUT) == scripts
    assert sum(b.budget_s for b in suite.SUITE.values()) <= 30 * 60


def test_a_peer_is_an_option_of_the_command_and_only_if_there_is_one() -> None:
    alone = suite.SUITE["job_maddpg"].command(quick=False, pythons={})
    assert alone == ["benchmarks/job.py", "--algo", "MADDPG", "--rounds", "3"]
    with_peer = suite.SUITE["job_maddpg"].command(quick=False, pythons={"PEER": "/there/python"})
    assert with_peer[: len(alone)] == alone
    assert with_peer[-2] == "--peer"
    assert with_peer[-1].startswith("/there/python benchmarks/agilerl_job.py --max-steps")


def test_what_a_benchmark_prints_is_kept_and_what_goes_wrong_is_said(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('a heading'); print('{\"ratio\": 2.5}', flush=True); import sys; sys.exit(3)")
    result = suite.run([str(script)], limit_s=30)
    assert (result["lines"], result["error"]) == ([{"ratio": 2.5}], "exit status 3")
    script.write_text("print('{\"ratio\": 1}', flush=True); import time; time.sleep(60)")
    result = suite.run([str(script)], limit_s=1)
    assert result["error"] == "took longer than 1 s"


def test_entries_are_replaced_one_by_one_and_never_mixed_with_those_of_another_machine(tmp_path: Path) -> None:
    out = tmp_path / "benchmarks.json"
    here = {"machine": {"cpu": "a"}, "versions": {}, "quick": False}
    out.write_text(json.dumps(suite.entered(out, here, {"wire": {"seconds": 1}})))
    out.write_text(json.dumps(suite.entered(out, here, {"ingest": {"seconds": 2}})))
    kept = suite.entered(out, here, {"wire": {"seconds": 3}})
    assert kept["benchmarks"] == {"wire": {"seconds": 3}, "ingest": {"seconds": 2}}
    elsewhere = suite.entered(out, here | {"machine": {"cpu": "b"}}, {"wire": {"seconds": 4}})
    assert elsewhere["benchmarks"] == {"wire": {"seconds": 4}}
