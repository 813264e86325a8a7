"""`training.init_from`: members begin with the weights of another run's member where they fit; the rest is told."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.support.processes import covey, covey_json, write_config
from tests.support.untrained_runs import NETWORK, speaker_listener

from covey.cli import run as run_command
from covey.config import parse_config
from covey.envs import load_environment, read_spaces
from covey.errors import ConfigError, SpaceError, StorageError
from covey.networks.normalisation import Moments
from covey.run.directory import RunDirectory
from covey.run.init_from import parse_source, with_absolute_source
from covey.run.kept import write_kept
from covey.run.trained import TrainedMember
from covey_server.build import PopulationFactory
from covey_server.member import Temperature
from covey_server.population import Population
from covey_server.storage.warm_start import WarmStart

SPEAKER_LISTENER = {"name": "mpe2.simple_speaker_listener_v4", "config": {"continuous_actions": True}}


@pytest.fixture
def source(tmp_path: Path) -> RunDirectory:
    """A run whose members 3 and 5 live, of which 5 is the best."""
    return speaker_listener(tmp_path / "source")


def fresh(init_from: object, environment: dict[str, Any] = SPEAKER_LISTENER, **sections: Any) -> Population:
    """The first population of a run that begins with a member's weights, and mutates nothing at first."""
    data = {
        "algorithm": {"name": "MATD3"},
        "environment": environment,
        "network": NETWORK,
        "training": {"pop_size": 2, "init_from": str(init_from), "seed": 7},
        "mutation": {"pre_training": False},
    } | sections
    config = parse_config(data)
    env = load_environment(config.environment.name, config.environment.config)()
    spaces = read_spaces(env, config.environment.groups)
    env.close()
    return PopulationFactory(config).fresh(spaces)


@pytest.mark.parametrize(("who", "member_id"), [("", 5), (":best", 5), (":5", 5), (":3", 3)])
def test_all_members_begin_as_the_one_that_is_named(source: RunDirectory, who: str, member_id: int) -> None:
    population = fresh(f"{source.path}{who}")
    there = WarmStart.read(f"{source.path}:{member_id}")
    assert len(population.members) == 2
    for member in population.members:
        assert set(member.networks) == set(there.weights) and len(member.networks) == 6
        for key, network in member.networks.items():
            for name, values in there.weights[key].items():
                np.testing.assert_array_equal(network.params[name], values)
                assert network.target is None or np.array_equal(network.target[name], values)
                assert not network.first_moment[name].any() and network.adam_steps == 0
        assert member.change == f"weights of member {member_id} of generation 2 of {source.path}"
        assert population.lineage[member.member_id].change == member.change
        assert member.parent_id is None, "ids of members are of their own run"


def test_weights_of_the_kept_best_are_those_that_were_kept(source: RunDirectory) -> None:
    """The best policy was kept when it was; the member may have learned on, or have died, since."""
    old, living = TrainedMember.read(source, 3), TrainedMember.read(source, 5)
    kept = TrainedMember(source, source.best, 99, 1, old.config, old.spaces, old.files)
    write_kept(source.best, kept, {"member_id": 99, "generation": 1, "fitness": 1.0})
    found = WarmStart.read(str(source.path))
    assert set(found.weights) == {"actor/speaker_0", "actor/listener_0"}, "of a dead member there are policies alone"
    for key, params in WarmStart.read(f"{source.path}:3").weights.items():
        if key in found.weights:
            assert all(np.array_equal(found.weights[key][name], values) for name, values in params.items())
    assert living.member_id == 5


@pytest.mark.parametrize("asked", [True, False])
def test_statistics_of_observations_come_with_the_weights_where_they_are_asked_for(
    source: RunDirectory, asked: bool
) -> None:
    there = WarmStart.read(f"{source.path}:5")
    known = Moments.of(np.random.default_rng(0).normal(size=(10, 3)))
    networks = {key: network.clone() for key, network in there.networks.items()}
    for network in networks.values():
        network.observed = known
    here = {key: network.clone() for key, network in there.networks.items()}
    for network in here.values():
        network.observed = Moments.none(3) if asked else None
    replace(there, networks=networks).fill(here)
    assert all(network.observed is (known if asked else None) for network in here.values())


@pytest.mark.parametrize("ent_coef", ["auto", 0.1])
def test_learned_temperatures_come_with_the_weights_and_moments_do_not(tmp_path: Path, ent_coef: object) -> None:
    run = speaker_listener(tmp_path / "soft", "MASAC")
    there = WarmStart.read(f"{run.path}:5")
    known = {key: n.temperature for key, n in there.networks.items() if key.startswith("actor/")}
    assert set(known.values()) == {Temperature()}
    for key in known:
        there.networks[key].temperature = Temperature(-1.5, 0.5, 0.25, 40)
    member = fresh(run.path, algorithm={"name": "MASAC", "ent_coef": ent_coef}).members[0]
    told = there.fill(member.networks)
    assert not told
    expected = Temperature(-1.5) if ent_coef == "auto" else None
    assert all(
        (n.temperature == expected) == key.startswith("actor/") for key, n in member.networks.items() if expected
    )
    assert expected or all(n.temperature is None for n in member.networks.values())


def test_what_does_not_fit_is_told_and_begins_anew(source: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "covey"):
        wider = fresh(source.path, network=NETWORK | {"head_config": {"hidden_size": [16]}})
    there = WarmStart.read(str(source.path))
    for key, network in wider.members[0].networks.items():
        for name, values in network.params.items():
            fits = there.weights[key][name].shape == values.shape
            assert np.array_equal(values, there.weights[key][name]) is fits or not values.any(), (key, name)
    text = caplog.text
    assert "initial weights: those of member 5" in text and "actor/speaker_0 has " in text
    assert "(8, 8) there, (8, 16) here" in text


def test_another_algorithm_takes_what_it_has_a_network_for(
    source: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "covey"):
        population = fresh(source.path, algorithm={"name": "MADDPG"})
    there = WarmStart.read(str(source.path))
    actor = population.members[1].networks["actor/listener_0"]
    assert all(np.array_equal(v, there.weights["actor/listener_0"][name]) for name, v in actor.params.items())
    assert "critic/speaker_0 begins anew" in caplog.text


def test_weights_of_which_none_fits_are_refused(source: RunDirectory) -> None:
    other = {"latent_dim": 24, "encoder_config": {"hidden_size": [24]}, "head_config": {"hidden_size": [24, 24]}}
    with pytest.raises(ConfigError, match="no weight matrix of member 5"):
        fresh(source.path, network=other | {"encoder_config": {"hidden_size": [40, 40], "activation": "ELU"}})


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({**SPEAKER_LISTENER, "config": {"continuous_actions": False}}, "listener_0 decides Box.* there, Discrete"),
        ({"name": "mpe2.simple_spread_v3", "config": {}}, "agent agent_0 is not there; .*agent speaker_0 is not here"),
        (
            {"name": "mpe2.simple_reference_v3", "config": {"continuous_actions": True}},
            "agent agent_0 is not there",
        ),
    ],
)
def test_other_spaces_are_refused_with_what_does_not_fit(
    source: RunDirectory, environment: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpaceError, match=words):
        fresh(source.path, environment)


def test_sources_name_a_run_and_perhaps_a_member(tmp_path: Path) -> None:
    assert parse_source("runs/a") == (Path("runs/a"), "best")
    assert parse_source("runs/a:best") == (Path("runs/a"), "best")
    assert parse_source("runs/a:12") == (Path("runs/a"), "12")
    assert parse_source("runs/a:b") == (Path("runs/a:b"), "best")
    config = parse_config(
        {
            "algorithm": {"name": "MATD3"},
            "environment": SPEAKER_LISTENER,
            "training": {"init_from": str(tmp_path / "nowhere:3")},
        }
    )
    with pytest.raises(StorageError, match="does not exist"):
        with_absolute_source(config)


def test_members_that_do_not_live_are_refused(source: RunDirectory) -> None:
    with pytest.raises(ConfigError, match="member 4 is not alive; alive: 3, 5"):
        fresh(f"{source.path}:4")


def test_a_run_begins_with_a_trained_members_weights_and_its_lineage_says_so(
    source: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"max_steps": 40, "evo_steps": 40, "pop_size": 1, "confirm_episodes": 1}
    config = write_config(tmp_path / "job.yaml", training=training, network=NETWORK)
    done = covey_json("train", config, "--runs", tmp_path / "runs", "--init-from", f"{source.path}:3", "--json")
    run = RunDirectory(Path(done["run_dir"]))
    (first,) = covey_json("lineage", run.path, "--json")["members"]
    assert first["mutation"] == "initial" and first["change"].startswith("weights of member 3 of generation 2 of ")
    assert yaml.safe_load(run.config.read_text())["training"]["init_from"] == f"{source.path.resolve()}:3"
    # A resumed run has weights of its own: the other run may be gone, but it cannot become another one.
    source.path.rename(tmp_path / "moved")
    again = covey("train", "--resume", run.path, "--set", "training.max_steps=80", "--json")
    assert again.returncode == 0 and json.loads(again.stdout.splitlines()[-1])["state"] == "complete", again.stderr
    assert run_command(["train", "--resume", str(run.path), "--init-from", str(tmp_path / "moved")]) == 2
    assert "cannot change as a run is resumed" in capsys.readouterr().err
    refused = covey("train", config, "--runs", tmp_path / "none", "--init-from", tmp_path / "nowhere")
    assert refused.returncode == 7 and "nowhere" in refused.stderr and not (tmp_path / "none").exists()
