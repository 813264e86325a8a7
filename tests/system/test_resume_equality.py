"""A deterministic run whose learner is killed in the middle ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.processes import Process, newest_run, processes, until, write_config

from covey.run.checkpoint_format import checkpoint_paths, read_newest
from covey.run.directory import RunDirectory
from covey.v1.fragment_pb2 import ReceivedFragment
from covey_server.storage.journal import Journal, Kind, Position

GENERATION_STEPS = 300

# What a checkpoint says about the clock, the disk and the process; everything else must be equal.
OF_THIS_RUN = {"sessions", "totals"}
OF_THIS_LIFE = {"journal", "needed_from", "superseded", "epoch", "config"}
"""Of the part "run": what differs where a run was interrupted."""


@dataclass(frozen=True)
class Outcome:
    """The newest checkpoint of a finished run."""

    run: RunDirectory
    state: dict[str, Any]
    tensors: dict[str, NDArray[Any]]


def finished(folder: Path, config: Path, disturb: Callable[[Process, Callable[[], Process]], Process]) -> Outcome:
    """A learner and one actor, which comes back by itself, until the run is complete."""
    with processes() as start:
        log = folder / "learner.log"
        learner = start(log, "learner", config, "--deterministic", "--runs", folder / "runs")
        run = until(lambda: any((folder / "runs").glob("*")) and newest_run(folder / "runs"), what="the run exists")
        address = until(lambda: (run / "address.json").exists() and run / "address.json", what="it serves")
        actor = start(
            folder / "actor.log",
            "actor",
            *("--learner", json.loads(address.read_text())["address"]),
            *("--name", "a1", "--allow-env", IMAGES),
        )
        learner = disturb(learner, lambda: start(log, "learner", "--resume", run))
        assert learner.wait() == 0, learner.output()
        assert actor.wait() == 0, actor.output()
    directory = RunDirectory.open(run)
    _, state, tensors = read_newest(directory.checkpoints)
    return Outcome(directory, state, tensors)


IMAGES = "tests.support.moving:moving"
MEMORY = "IPPO-memory"
ENCODERS = {MEMORY: {"hidden_size": [16], "recurrent": True, "hidden_state_size": 16}}
ON_A_GPU = [pytest.param((name, "cuda"), marks=pytest.mark.cuda) for name in ("MATD3", "IPPO")]
NORMALISED = [(name, "cpu", "normalised") for name in ("MATD3", "IPPO")]
STATE = [(name, "cpu", "normalised, state") for name in ("MAPPO", "QMIX")]
STACKED = [("MATD3", "cpu", "images"), ("IPPO", "cpu", "images"), ("MATD3", "cpu", "stacks"), ("IPPO", "cpu", "stacks")]
"""Stacks of frames, of images and of vectors."""


@pytest.fixture(
    scope="module",
    params=[
        ("MATD3", "cpu"),
        ("IPPO", "cpu"),
        ("QMIX", "cpu"),
        ("PQN", "cpu"),
        ("MASAC", "cpu"),
        (MEMORY, "cpu"),
        *NORMALISED,
        *STATE,
        *STACKED,
        *ON_A_GPU,
    ],
    ids="-".join,
)
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    """A run without a kill, and one with a kill within its second generation."""
    name, device, *more = request.param
    variant = more[0] if more else ""
    folder = tmp_path_factory.mktemp("-".join(request.param))
    own: dict[str, Any]
    learn_step, own = (150, {}) if "PPO" in name or name == "PQN" else (10, {"batch_size": 32})
    if variant.startswith("normalised"):
        own |= {"normalize_observations": True} | ({"scale_rewards": True} if "PPO" in name else {})
    encoder: dict[str, Any] = ENCODERS.get(name, {"hidden_size": [16]})
    environment: dict[str, Any] = {
        "config": {"continuous_actions": name not in ("QMIX", "PQN"), "max_cycles": 4},
        "state": variant == "normalised, state",
    }
    if variant == "images":
        encoder = {"channel_size": [8], "kernel_size": [3], "min_channel_size": 4}
        environment = {"name": IMAGES, "config": {"length": 4}}
    if variant in ("images", "stacks"):
        environment["frame_stack"] = 3
    config = write_config(
        folder / "same.yaml",
        algorithm={"name": name.partition("-")[0], "learn_step": learn_step, **own},
        network={"encoder_config": encoder},
        learner={"device": device},
        training={
            "max_steps": 3 * GENERATION_STEPS,
            "evo_steps": GENERATION_STEPS,
            "pop_size": 3,
            "confirm_episodes": 12,
            "eval_loop": 4,  # dear enough for halving
        },
        # So short that within a twentieth of the env steps the best so far can be confirmed.
        environment=environment,
        replay_buffer={"max_size": 1200},  # a ring that goes round
        checkpoint={"keep": 9, "journal_segment_bytes": 1 << 16},
    )
    rng = random.Random()

    def kill(learner: Process, resume: Callable[[], Process]) -> Process:
        checkpoints = newest_run(folder / "killed" / "runs") / "checkpoints"
        until(lambda: len(checkpoint_paths(checkpoints)) > 1, what="the second generation begins")
        time.sleep(rng.uniform(0.0, 0.5))
        learner.kill()
        return resume()

    for name in ("whole", "killed"):
        (folder / name).mkdir()
    with ThreadPoolExecutor(2) as pool:
        killed = pool.submit(finished, folder / "killed", config, kill)
        return finished(folder / "whole", config, lambda learner, _: learner), killed.result()


def test_the_population_is_equal_bit_for_bit(outcomes: tuple[Outcome, Outcome]) -> None:
    whole, killed = outcomes
    assert whole.tensors.keys() == killed.tensors.keys()
    assert {"params", "first_moment", "second_moment"} <= {name.split("/")[3] for name in whole.tensors}
    for name, tensor in whole.tensors.items():
        assert np.array_equal(tensor, killed.tensors[name]), name


def test_lineage_fitness_and_ledgers_are_equal(outcomes: tuple[Outcome, Outcome]) -> None:
    whole, killed = outcomes
    assert whole.state["run"]["generation"] == 2 and whole.state["run"]["kept_fitness"] is not None
    assert whole.state.keys() == killed.state.keys()
    for key in whole.state["run"].keys() - OF_THIS_LIFE:
        assert whole.state["run"][key] == killed.state["run"][key], key
    for key in whole.state.keys() - OF_THIS_RUN - {"run"}:
        assert json.dumps(whole.state[key]) == json.dumps(killed.state[key]), key
    assert whole.run.lineage.read_text() == killed.run.lineage.read_text() != ""
    for key in ("env_steps", "eval_env_steps", "updates", "passes", "members_in_passes"):
        assert whole.state["totals"][key] == killed.state["totals"][key], key


def test_the_elites_of_generations_are_equal_bit_for_bit(outcomes: tuple[Outcome, Outcome]) -> None:
    whole, killed = outcomes
    assert whole.run.elite_generations() == killed.run.elite_generations() == [0, 1, 2]
    assert whole.state["run"]["elites"].keys() == {"0", "1", "2"}
    for generation in whole.run.elite_generations():
        ones, others = ({p.name: p.read_bytes() for p in o.run.elite(generation).iterdir()} for o in (whole, killed))
        assert ones == others and len(ones) > 3, generation


def test_what_was_played_again_is_recorded_as_superseded(outcomes: tuple[Outcome, Outcome]) -> None:
    accepted = []
    for outcome in outcomes:
        journal = Journal.open(outcome.run.journal, 1 << 16)
        records = list(journal.read())
        journal.close()
        notes = [json.loads(payload)["superseded"] for _, kind, payload in records if kind == Kind.NOTE]
        assert notes == outcome.state["run"]["superseded"]
        spans = [(Position(*begin), Position(*end)) for begin, end in notes]
        fragments = [
            (at, ReceivedFragment.FromString(payload)) for at, kind, payload in records if kind == Kind.FRAGMENT
        ]
        assert len({(r.incarnation, r.fragment.seq) for _, r in fragments}) == len(fragments)
        kept = [r for at, r in fragments if not r.refused and not any(begin <= at < end for begin, end in spans)]
        # Of training: an evaluation that was under way begins again, and its parts may be cut elsewhere.
        accepted.append([r.fragment.blob for r in kept if r.stream_members])
    assert accepted[0]
    assert accepted[0] == accepted[1], "what was played again is what had been played"
