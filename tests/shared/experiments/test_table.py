"""`covey table`: what it says of runs whose scores are known, in every format, and what it leaves out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from tests.support.scored_sweeps import SPEAKER_LISTENER, scored_sweep

from covey.cli import run
from covey.experiments.sweep_directory import SweepDirectory

# Levels of the task: random -73.0, bound -11.8. So -42.4 is 0.5 and -11.8 is 1.
HIGH = [[(100, -70.0), (200, -11.8)], [(100, -60.0), (200, -42.4)], [(100, -65.0), (200, -30.0)], [(200, -20.0)]]
LOW = [[(100, -70.0), (200, -73.0)], [(100, -60.0), (200, -60.0)], [(100, -65.0), (200, -50.0)]]


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    return scored_sweep(tmp_path / "job", {"0.01": HIGH, "0.001": LOW})


def numbers(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[tuple[str, str, str], float]:
    """The numbers of a table by settings, statistic and where."""
    assert run(["table", *map(str, arguments), "--format", "csv"]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    return {(row["settings"].rpartition("=")[2], row["statistic"], row["at"]): float(row["value"]) for row in rows}


def test_statistics_are_those_of_the_scores(sweep: SweepDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    found = numbers(capsys, sweep.path)
    high = [-11.8, -42.4, -30.0, -20.0]
    assert found["0.01", "mean", ""] == pytest.approx(sum(high) / 4)
    assert found["0.01", "median", ""] == pytest.approx(-25.0)
    assert found["0.01", "IQM", ""] == pytest.approx(-25.0), "of four runs the best and the worst are left out"
    assert found["0.001", "IQM", ""] == pytest.approx(-61.0)
    assert found["0.01", "normalised mean", ""] == pytest.approx((sum(high) / 4 + 73) / 61.2)
    assert found["0.01", "optimality gap", ""] == pytest.approx(1 - (sum(high) / 4 + 73) / 61.2)
    assert found["0.01", "share above 0.75", ""] == 0.5 and found["0.001", "share above 0.75", ""] == 0.0
    assert found["0.01", "probability of improvement", "algorithm.lr_actor=0.001"] == 1.0
    assert found["0.01", "score", "1"] == -42.4 and found["0.001", "wall_s", "2"] == 12.0
    assert ("0.01", "IQM by env steps", "100.0") not in found, "one run had not been evaluated by then"
    assert found["0.001", "IQM by env steps", "100.0"] == pytest.approx(-65.0)


def test_scores_at_an_earlier_time_see_nothing_of_later_ones(
    sweep: SweepDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps in (100, 150, 199):
        found = numbers(capsys, sweep.path, "--at", steps)
        assert found["0.001", "mean", ""] == pytest.approx(-65.0)
        assert found["0.01", "mean", ""] == pytest.approx(-65.0), "of the three runs that had been evaluated"
    assert run(["table", str(sweep.path), "--at", "150"]) == 0
    out = capsys.readouterr().out
    assert "continuous actions, after 150 env steps" in out and "bound -11.8" in out
    assert run(["table", str(sweep.path), "--at", "99"]) == 7
    err = capsys.readouterr().err
    assert "keeps no generation that had ended after 99 env steps" in err and "no run has a score" in err


def test_every_format_has_the_settings_and_an_interval(
    sweep: SweepDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in {
        "text": ("algorithm.lr_actor=0.01", "-25.0 [", "best (seed)", "-11.8 (0)", "-42.4 (1)"),
        "md": ("| algorithm.lr_actor=0.01 | 4 |", "| --- | ---: |"),
        "latex": (r"algorithm.lr\_actor=0.01 & 4 &", r"\toprule", r"95 \%"),
    }.items():
        assert run(["table", str(sweep.path), "--format", name]) == 0
        out = capsys.readouterr().out
        for word in (*words, "probability of improvement", "IQM by env steps", "bound -11.8"):
            assert word in out, (name, word, out)


def test_marl_eval_gets_its_json(sweep: SweepDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", str(sweep.path), "--format", "marl-eval"]) == 0
    found = json.loads(capsys.readouterr().out)
    runs = found["mpe"]["simple_speaker_listener_v4, continuous actions"]["algorithm.lr_actor=0.001"]
    assert runs["seed_1"] == {
        "step_0": {"step_count": 100, "return": [-60.0]},
        "step_1": {"step_count": 200, "return": [-60.0]},
        "absolute_metrics": {"return": [-60.0]},
    }


def test_few_runs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored_sweep(tmp_path / "few", {"1": [[(9, -20.0)]], "2": HIGH})
    assert run(["table", str(tmp_path / "few")]) == 0
    assert "Fewer than 3 runs, whose intervals say next to nothing: algorithm.lr_actor=1." in capsys.readouterr().out


def test_runs_without_a_score_are_left_out_and_told(sweep: SweepDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = sweep.runs()[:3]
    (first / "evaluations.json").unlink()
    (second / "result.json").write_text(json.dumps({"state": "stopped", "env_steps": 1}))
    trained_on = json.loads((third / "result.json").read_text()) | {"env_steps": 999}
    (third / "result.json").write_text(json.dumps(trained_on))
    numbers_left = numbers(capsys, sweep.path)
    assert sum(statistic == "score" for _, statistic, _ in numbers_left) == 4
    assert run(["table", str(sweep.path)]) == 0
    err = capsys.readouterr().err
    assert f"run {first} is not evaluated; covey evaluate {first} --keep" in err
    assert f"run {second} is not complete" in err and f"run {third} is not evaluated" in err


def test_sweeps_are_compared_by_their_names(
    sweep: SweepDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored_sweep(tmp_path / "other", {"0.01": LOW})
    assert run(["table", str(sweep.path), str(tmp_path / "other"), "--format", "md"]) == 0
    out = capsys.readouterr().out
    assert "| job algorithm.lr_actor=0.01 | 4 |" in out and "| other algorithm.lr_actor=0.01 | 3 |" in out


def test_several_tasks_are_averaged_by_normalised_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spread = {"name": "covey.envs.mpe.simple_spread_v3", "config": {}}
    scored_sweep(tmp_path / "job", {"1": [[(9, -11.8)], [(9, -11.8)]]})
    other = scored_sweep(tmp_path / "more" / "job", {"1": [[(9, -79.8)], [(9, -79.8)]]}, environment=spread)
    assert run(["table", str(tmp_path / "job"), str(other.path), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    found = {r["statistic"]: float(r["value"]) for r in rows if r["task"] == "all tasks"}
    assert found["normalised IQM"] == pytest.approx(0.5) and "IQM" not in found


def test_a_users_own_tasks_have_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = {"name": "my_game:make", "config": {"size": 3}}
    scored_sweep(tmp_path / "job", {"1": HIGH}, environment=mine)
    found = numbers(capsys, tmp_path / "job")
    assert ("1", "normalised IQM", "") not in found
    levels = tmp_path / "levels.yaml"
    levels.write_text(
        "- {environment: 'my_game:make', config: {size: 3}, "
        "levels: [{name: random, score: -75}, {name: bound, score: 25}]}"
    )
    assert numbers(capsys, tmp_path / "job", "--levels", levels)["1", "normalised IQM", ""] == pytest.approx(0.5)
    levels.write_text(levels.read_text().replace("size: 3", "size: 4"))
    assert ("1", "normalised IQM", "") not in numbers(capsys, tmp_path / "job", "--levels", levels)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b", "expected a list of tasks"),
        ("- {environment: e}", "levels"),
        ("- {environment: e, levels: [{name: a, score: 1}]}", "two levels or more"),
        ("- {environment: e, levels: [{name: a, score: 1}, {name: b, score: 1}]}", "have other scores"),
        ("- {environment: e, level: []}", "level"),
    ],
)
def test_levels_of_another_form_are_refused(
    sweep: SweepDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "levels.yaml").write_text(text)
    assert run(["table", str(sweep.path), "--levels", str(tmp_path / "levels.yaml")]) == 2
    assert words in capsys.readouterr().err


def test_what_is_no_sweep_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    assert run(["table", str(tmp_path / "run")]) == 7
    assert "is no sweep" in capsys.readouterr().err


def test_levels_belong_to_the_task_with_its_default_arguments_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, (config, known) in enumerate(
        [({"max_cycles": 25}, True), ({"max_cycles": 50}, False), ({"continuous_actions": True, "x": 1}, False)]
    ):
        arguments = {**SPEAKER_LISTENER["config"], **config}  # type: ignore[dict-item]
        scored_sweep(tmp_path / str(i), {"1": HIGH}, environment={**SPEAKER_LISTENER, "config": arguments})
        assert (("1", "normalised IQM", "") in numbers(capsys, tmp_path / str(i))) is known
