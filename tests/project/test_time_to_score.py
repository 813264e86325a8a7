"""Time to a score: every policy of a run is played alike, ours and a peer's, and a line is reached when it stays so."""

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.time_to_score import (
    EPISODES,
    TASKS,
    Point,
    Task,
    layers_score,
    medians,
    reached,
    summed_up,
    train_covey,
    train_peer,
)

from covey.acting import LoadedPolicy
from covey.cli.evaluate import play
from covey.run.directory import RunDirectory
from covey.run.trained import TrainedMember

PEER = """
import argparse, json, pathlib, numpy as np
parser = argparse.ArgumentParser()
for name, kind in {"seed": int, "max-steps": int, "every-s": float, "out": pathlib.Path}.items():
    parser.add_argument(f"--{name}", type=kind, required=True)
given = parser.parse_args()
rng = np.random.default_rng(given.seed)
for k in range(3):
    weights = {"weight_0": rng.normal(size=(64, 18)), "bias_0": np.zeros(64)}
    weights |= {"weight_1": rng.normal(size=(5, 64)), "bias_1": np.zeros(5)}
    np.savez(given.out / f"{k:08}.npz", env_steps=k * given.max_steps // 2, **weights)
print("some words")
print(json.dumps({"peer": "stub"}))
"""


def points(*scores: float) -> list[Point]:
    return [Point(10.0 * k, 5.0 * k, 100 * k, score) for k, score in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("scores", "steps"),
    [
        ((-60, -45, -44), 200),
        ((-60, -45, -55, -44, -43), 400),  # one score above the line is not enough
        ((-45, -44), 100),
        ((-60, -45), None),  # nothing confirms the last one
        ((-60, -50, -50), None),  # on the line is not above it
        ((), None),
    ],
)
def test_a_line_is_reached_where_the_next_policy_is_above_it_too(scores: tuple[float, ...], steps: int | None) -> None:
    found = reached(points(*scores), -50)
    assert (found and found.env_steps) == steps


def test_medians_count_a_seed_that_never_got_there_as_the_slowest() -> None:
    def run(seconds: float | None) -> dict[str, object]:
        there = None if seconds is None else {"seconds": seconds, "cpu_s": 2 * seconds, "env_steps": 100}
        return {"env_steps_per_s": 10, "env_steps_per_cpu_s": 5, "to -50": there}

    assert medians([run(3), run(None), run(7)], [-50])["to -50"] == {"seconds": 7, "cpu_s": 14, "env_steps": 100}
    assert medians([run(3), run(None), run(None)], [-50])["to -50"] is None


def test_checkpoints_of_a_run_are_played_as_covey_evaluate_plays(tmp_path: Path) -> None:
    task = TASKS["spread"]
    process, found = train_covey(task, 0, 9600, 0.01, ["algorithm.update_epochs=1", "actors.local=1"], tmp_path)
    steps = [p.env_steps for p in found]
    assert steps == sorted(steps)
    assert steps[-1] == 9600
    assert all(0 < p.seconds <= process.wall_s for p in found)
    run = RunDirectory(Path(process.result["run_dir"]))
    last = TrainedMember.read(run, 0)
    assert found[-1].score == play(last, EPISODES, 1)["mean_return"]
    told = summed_up("covey", 0, process, found, [-1000.0, 0.0])
    assert told["to -1000"]["env_steps"] == steps[0]
    assert told["to 0"] is None
    assert told["env_steps_per_s"] > 0
    # A peer's layers are played by other code than ours, with the same result.
    params = LoadedPolicy.decode(next(iter(last.files.values()))).params
    names = [name.removesuffix(".weight") for name in params if name.endswith(".weight")]
    names.sort(key=lambda name: (name.startswith("head"), name))
    layers = [(params[f"{name}.weight"].T, params[f"{name}.bias"]) for name in names]
    assert [weight.shape for weight, _ in layers] == [(64, 18), (64, 64), (5, 64)]
    assert layers_score(last.environment(), layers) == pytest.approx(found[-1].score, abs=0.5)


def test_before_the_first_generation_ends_a_population_has_a_score_too(tmp_path: Path) -> None:
    example = TASKS["spread"]
    task = Task(example.config, (*example.overrides, "training.pop_size=2"), 6400, (-50,))
    _, found = train_covey(task, 0, 3200, 0.01, ["algorithm.update_epochs=1", "actors.local=1"], tmp_path)
    assert found[0].env_steps < 6400
    assert all(np.isfinite(p.score) for p in found)


def test_policies_of_a_peer_are_played_in_their_order(tmp_path: Path) -> None:
    script, out = tmp_path / "peer.py", tmp_path / "out"
    script.write_text(PEER)
    out.mkdir()
    command = shlex.join([sys.executable, str(script)])
    process, found = train_peer(command, TASKS["spread"], 0, 1000, 1.0, out)
    assert [p.env_steps for p in found] == [0, 500, 1000]
    assert all(-400 < p.score < -40 for p in found)
    assert len({p.score for p in found}) == 3
    assert summed_up("stub", 0, process, found, [-1000.0])["to -1000"]["env_steps"] == 0


def test_a_peer_that_fails_is_named(tmp_path: Path) -> None:
    script = tmp_path / "peer.py"
    script.write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match=r"peer\.py.*exit status 3, expected 0"):
        train_peer(shlex.join([sys.executable, str(script)]), TASKS["spread"], 0, 1000, 1.0, tmp_path)
