"""Configurations: what is accepted, and the sentence for what is not."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from covey.config import (
    Config,
    MATD3Hyperparameters,
    OffPolicyAlgorithm,
    OnPolicyAlgorithm,
    OnPolicyHyperparameters,
    load_config,
    parse_config,
)
from covey.config.architecture import resolve
from covey.config.yaml_text import parse_yaml
from covey.errors import ConfigError
from covey.networks.resolve import network_ids
from covey.spaces import MOST_FRAMES, AgentSpec, Box, Discrete, EnvironmentSpaces

MINIMAL: dict[str, Any] = {"algorithm": {"name": "MATD3"}, "environment": {"name": "mpe2.simple_v3"}, "training": {}}


def config(section: str, **values: Any) -> Config:
    return parse_config({**MINIMAL, section: {**MINIMAL.get(section, {}), **values}})


def complaint(section: str, **values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(section, **values)
    return str(caught.value)


def test_defaults_fill_what_a_file_does_not_say() -> None:
    c = parse_config(MINIMAL)
    assert (c.algorithm.batch_size, c.training.pop_size, c.environment.num_envs) == (64, 4, 8)
    assert c.train_slots == 8
    assert c.eval_episodes == 8


def test_an_unknown_key_names_its_path_and_the_nearest_valid_key() -> None:
    assert complaint("algorithm", lr_acter=0.1) == "algorithm.lr_acter: unknown key; did you mean 'lr_actor'?"


def test_a_key_of_an_algorithm_is_named_without_the_algorithm() -> None:
    assert complaint("algorithm", name="IPPO", ent_coff=0.1) == (
        "algorithm.ent_coff: unknown key; did you mean 'ent_coef'?"
    )
    assert complaint("algorithm", name="IPPO", lr_actor=0.1) == "algorithm.lr_actor: unknown key; did you mean 'lr'?"
    assert complaint("algorithm", name="IPPO", tau=0.1).startswith("algorithm.tau: unknown key; expected one")
    assert complaint("algorithm", name="IPPO", gae_lambda=2).startswith("algorithm.gae_lambda: 2: expected less than")


def test_an_unknown_algorithm_lists_the_known() -> None:
    text = complaint("algorithm", name="ippo")
    known = "'IPPO', 'MADDPG', 'MAPPO', 'MASAC', 'MATD3', 'PQN', 'QMIX', 'VDN'"
    assert text == f"algorithm.name: 'ippo': expected one of {known}; did you mean 'IPPO'?"
    with pytest.raises(ConfigError, match=r"^algorithm.name: missing"):
        parse_config({**MINIMAL, "algorithm": {"gamma": 0.9}})


def test_each_algorithm_has_its_own_keys() -> None:
    ippo = config("algorithm", name="IPPO", max_grad_norm=None).algorithm
    assert isinstance(ippo, OnPolicyAlgorithm) and ippo.max_grad_norm is None and ippo.share_parameters
    assert isinstance(parse_config(MINIMAL).algorithm, OffPolicyAlgorithm)


def test_a_key_without_a_value_is_as_if_it_were_not_there() -> None:
    empty = {
        "algorithm": {"name": "IPPO", "gamma": None, "target_kl": None},
        "mutation": None,
        "logging": {"csv": None},
    }
    c = parse_config({**MINIMAL, **empty})
    assert isinstance(c.algorithm, OnPolicyAlgorithm)
    assert (c.algorithm.gamma, c.logging.csv) == (0.99, True)
    with pytest.raises(ConfigError, match=r"^algorithm.gamm: unknown key"):
        parse_config({**MINIMAL, "algorithm": {"name": "IPPO", "gamm": None}})


MATD3_ALONE = {"policy_freq": 3, "target_noise": 0.1, "target_noise_clip": 0.3}


@pytest.mark.parametrize("key", MATD3_ALONE)
def test_maddpg_refuses_what_only_matd3_reads(key: str) -> None:
    section = {"name": "MADDPG", key: MATD3_ALONE[key]}
    with pytest.raises(ConfigError, match=f"^algorithm.{key}: unknown key"):
        parse_config({**MINIMAL, "algorithm": section})
    parse_config({**MINIMAL, "algorithm": {**section, "name": "MATD3"}})


def test_a_run_that_stored_keys_that_are_gone_is_read_and_a_file_with_them_is_not(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "algorithm": {"name": "MADDPG", "gamma": 0.5, **MATD3_ALONE}}))
    settings = load_config(path, stored=True).algorithm
    assert isinstance(settings, OffPolicyAlgorithm) and settings.gamma == 0.5
    with pytest.raises(ConfigError, match=r"^algorithm.policy_freq: unknown key"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"^algorithm.target_noise: unknown key"):
        load_config(path, ["algorithm.target_noise=0.1"], stored=True)


def test_a_records_copy_is_checked() -> None:
    record = MATD3Hyperparameters(batch_size=32, policy_freq=3)
    changed = record.changed(batch_size=8)
    assert (record.batch_size, changed.batch_size, changed.policy_freq) == (32, 8, 3)
    assert changed.numbers() == {**record.numbers(), "batch_size": 8}
    for wrong in ({"batch_size": 0}, {"lr": 0.1}, {"policy_freq": 1.5}):
        with pytest.raises(ValidationError):
            record.changed(**wrong)


def test_a_limit_that_is_off_is_no_number() -> None:
    assert "max_grad_norm" not in OnPolicyHyperparameters(max_grad_norm=None).numbers()
    assert OnPolicyHyperparameters().numbers()["max_grad_norm"] == 0.5


def test_what_may_mutate_is_what_the_algorithm_has() -> None:
    wide = {"min": 0.1, "max": 1.0}
    assert "policy_freq" in complaint("mutation", rl_hp_selection={"ent_coef": wide})
    maddpg = {**MINIMAL, "algorithm": {"name": "MADDPG"}, "mutation": {"rl_hp_selection": {"policy_freq": wide}}}
    with pytest.raises(ConfigError, match=r"^mutation.rl_hp_selection.policy_freq: no hyperparameter of MADDPG"):
        parse_config(maddpg)
    ippo = {**MINIMAL, "mutation": {"rl_hp_selection": {"max_grad_norm": wide}}}
    assert parse_config({**ippo, "algorithm": {"name": "IPPO"}}).mutation.rl_hp_selection["max_grad_norm"].max == 1
    with pytest.raises(ConfigError, match="max_grad_norm: no hyperparameter of IPPO"):
        parse_config({**ippo, "algorithm": {"name": "IPPO", "max_grad_norm": None}})


@pytest.mark.parametrize(
    ("learner", "updates"),
    [
        ({}, "auto"),
        ({"updates": "graph"}, "graph"),
        ({"compile": True}, "compiled"),
        ({"compile": False}, "auto"),
        ({"compile": None}, "auto"),
        ({"compile": False, "updates": "recorded"}, "recorded"),
        ({"compile": True, "updates": "compiled"}, "compiled"),
    ],
)
def test_the_older_key_of_updates_is_read(learner: dict[str, Any], updates: str) -> None:
    assert config("learner", **learner).learner.updates == updates


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        ({"compile": True, "updates": "eager"}, ["compile True beside updates 'eager'", "write `updates: compiled`"]),
        ({"compile": "yes"}, ["compile 'yes'", "expected `updates` alone"]),
        ({"updates": "record"}, ["learner.updates: 'record'", "'recorded'"]),
    ],
)
def test_updates_that_are_none_are_one_sentence(learner: dict[str, Any], words: list[str]) -> None:
    text = complaint("learner", **learner)
    assert text.startswith("learner") and all(word in text for word in words), text


def test_opponents_are_random_or_members_of_the_first_generation() -> None:
    assert config("fitness", opponents={"a": "random", "b": 3}).fitness.opponents == {"a": "random", "b": 3}
    assert config("fitness", opponents={"a": "./policies"}).fitness.opponents == {"a": "./policies"}
    assert complaint("fitness", opponents={"a": "best"}).startswith("fitness.opponents.a: 'best': expected 'random'")
    assert complaint("fitness", opponents={"a": 4}) == (
        "fitness.opponents.a: 4: expected 'random', 'elite', a member of the first generation, 0 to 3, or a path with "
        "a slash in it, such as ./policies"
    )
    assert complaint("fitness", opponents={"a": -1}).startswith("fitness.opponents.a: -1: expected 'random'")


def test_an_unknown_key_in_a_nested_section_is_named_in_full() -> None:
    text = complaint("mutation", probabilities={"no_mutt": 1.0})
    assert text == "mutation.probabilities.no_mutt: unknown key; did you mean 'no_mut'?"


def test_an_unknown_key_without_a_near_one_lists_what_is_valid() -> None:
    text = complaint("fitness", zzz=1)
    assert text.startswith("fitness.zzz: unknown key; expected one of ")
    assert "agents" in text
    assert "reduce" in text


def test_an_unknown_section_names_the_nearest() -> None:
    assert complaint("trainings", a=1) == "trainings: unknown key; did you mean 'training'?"


@pytest.mark.parametrize(
    ("section", "values", "parts"),
    [
        ("algorithm", {"lr_actor": -1}, ["algorithm.lr_actor: -1", "greater than 0"]),
        ("algorithm", {"gamma": 1.5}, ["algorithm.gamma: 1.5", "less than or equal to 1"]),
        ("algorithm", {"batch_size": "many"}, ["algorithm.batch_size: 'many'", "integer"]),
        ("algorithm", {"name": "PPO"}, ["algorithm.name: 'PPO'", "MADDPG", "MATD3"]),
        ("environment", {"num_envs": 0}, ["environment.num_envs: 0", "greater than or equal to 1"]),
        ("training", {"pop_size": 2000}, ["training.pop_size: 2000", "1024"]),
        ("mutation", {"probabilities": {"no_mut": 0, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}}, ["weight 0"]),
        ("mutation", {"rl_hp_selection": {"gamma": {"min": 0.9, "max": 0.1}}}, ["min 0.9 is above max 0.1"]),
        (
            "mutation",
            {"rl_hp_selection": {"lr_acto": {"min": 0.1, "max": 0.2}}},
            ["lr_acto", "did you mean 'lr_actor'"],
        ),
    ],
)
def test_a_value_out_of_bounds_names_path_value_and_expectation(
    section: str, values: dict[str, Any], parts: list[str]
) -> None:
    text = complaint(section, **values)
    assert all(part in text for part in parts), text
    assert "\n" not in text


def test_a_missing_section_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^algorithm: missing"):
        parse_config({k: v for k, v in MINIMAL.items() if k != "algorithm"})


def test_all_errors_are_told_up_to_a_length() -> None:
    text = complaint("algorithm", gamma=2, tau=3, lr=1)
    assert all(part in text for part in ("algorithm.gamma: 2", "; also algorithm.tau: 3", "did you mean 'lr_actor'?"))
    many = complaint("algorithm", **{f"unknown_setting_{i}": i for i in range(50)})
    assert len(many) < 2000 and re.search(r"\(and \d+ more\)$", many), many


def test_names_of_agilerl_are_understood() -> None:
    c = parse_config({**MINIMAL, "replay_buffer": {"memory_size": 7}, "tournament_selection": {"tournament_size": 3}})
    assert (c.replay_buffer.max_size, c.selection_strategy.tournament_size) == (7, 3)


def test_deterministic_means_one_actor() -> None:
    assert config("training", deterministic=True).actors.local == 1
    assert config("training", deterministic=False).actors.local is None


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return path


YAML = "algorithm: {name: MADDPG}\nenvironment: {name: mpe2.simple_v3}\ntraining: {seed: 3}\n"


def test_set_overrides_with_yaml_values_and_makes_sections(tmp_path: Path) -> None:
    sets = ["training.seed=5", "algorithm.O_U_noise=false", "actors.local=3", "environment.config={N: 2}"]
    c = load_config(written(tmp_path, YAML), sets)
    assert isinstance(c.algorithm, OffPolicyAlgorithm) and not c.algorithm.O_U_noise
    assert (c.training.seed, c.actors.local, c.environment.config) == (5, 3, {"N": 2})
    assert c.name == "job"


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("training.seed", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("training.seed.deep=1", "seed is no section"),
        ("training.seed=[", "is not YAML"),
        ("training.sead=1", "did you mean 'seed'"),
    ],
)
def test_a_bad_override_is_one_sentence(tmp_path: Path, override: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(written(tmp_path, YAML), [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "match"), [("a: [", "is not YAML"), ("- 1\n", "holds list"), ("", "holds NoneType")])
def test_a_file_that_is_no_configuration_is_one_sentence(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def spaces(*agents: tuple[str, int]) -> EnvironmentSpaces:
    return EnvironmentSpaces.build(
        [AgentSpec(name, Box("float32", (n,), (-1.0,) * n, (1.0,) * n), Discrete(2)) for name, n in agents]
    )


TEAMS = spaces(("bob_0", 16), ("bob_1", 16), ("fred_0", 32))


def test_one_net_config_serves_all_agents() -> None:
    resolved = resolve({"latent_dim": 32, "encoder_config": {"hidden_size": [8]}}, TEAMS, shared=False)
    assert list(resolved) == ["bob_0", "bob_1", "fred_0"]
    assert {(c.latent_dim, *c.encoder_config.hidden_size) for c in resolved.values()} == {(32, 8)}


def test_net_configs_by_agent_go_before_those_by_group_and_the_rest_is_default() -> None:
    resolved = resolve({"bob": {"latent_dim": 16}, "bob_1": {"latent_dim": 24}}, TEAMS, shared=False)
    assert {k: c.latent_dim for k, c in resolved.items()} == {
        "bob_0": 16,
        "bob_1": 24,
        "fred_0": 64,
    }


def test_shared_policies_take_net_configs_by_group() -> None:
    assert network_ids(TEAMS, shared=True) == {"bob": (0, 1), "fred": (2,)}
    resolved = resolve({"bob": {"latent_dim": 16}, "fred_0": {"latent_dim": 24}}, TEAMS, shared=True)
    assert {k: c.latent_dim for k, c in resolved.items()} == {"bob": 16, "fred": 24}


@pytest.mark.parametrize(
    ("network", "shared", "match"),
    [
        ({"bob_1": {}}, True, r"^network.bob_1: agents of group 'bob' share one policy; configure network.bob$"),
        ({"alice": {}}, False, r"^network.alice: no agent or group .* bob, fred, bob_0, bob_1, fred_0"),
        ({"latent_dim": 3, "bob": {}}, False, r"^network.bob: expected either keys of one network"),
        ({"bob": {"latent_dims": 3}}, False, r"^network.bob.latent_dims: unknown key; did you mean 'latent_dim'"),
        ({"encoder_config": {"hidden_size": [0]}}, False, r"^network.encoder_config: .*sizes from 1 to 65536"),
        ({"head_config": {"activation": "Relu"}}, False, r"^network.head_config.activation: 'Relu': expected 'ReLU'"),
    ],
)
def test_a_bad_net_config_is_one_sentence(network: dict[str, Any], shared: bool, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        resolve(network, TEAMS, shared)
    assert "\n" not in str(caught.value)


def test_an_algorithm_that_learns_from_its_own_policy_plays_no_random_steps() -> None:
    sections = {
        "algorithm": {"name": "IPPO"},
        "environment": {"name": "mpe2.simple_v3"},
        "training": {"random_steps": 500},
    }
    with pytest.raises(ConfigError, match=r"training.random_steps: 500, expected 0 with IPPO"):
        parse_config(sections)
    assert parse_config(sections | {"algorithm": {"name": "MADDPG"}}).training.random_steps == 500


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/tmp/x",
        "a/b",
        "a\\b",
        "..",
        ".x",
        "",
        " x",
        "x ",
        "-x",
        "a\nb",
        "\x1b[2J",
        "\u202ex",
        "x" * 300,
        "é" * 65,
    ],
)
def test_a_name_of_a_run_is_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^name: .* expected a name of 1 to 128 bytes that is no path") as caught:
        parse_config({**MINIMAL, "name": name})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["run", "my run 2", "simple_spread_v3", "lr=0.01,seed=3", "études", "x" * 128])
def test_what_is_a_name_passes(name: str) -> None:
    assert parse_config({**MINIMAL, "name": name}).name == name


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("training: {}\nname: a\ntraining: {}\n", "training", "1 and 3"),
        ("name: a\ntraining:\n  seed: 1\n  max_steps: 2\n  seed: 3\n", "seed", "3 and 5"),
        ("network: {latent_dim: 8, 'latent_dim': 16}\n", "latent_dim", "1 and 1"),
        ("a: &a {x: 1}\nb:\n  - <<: *a\n    x: 2\n    x: 3\n", "x", "4 and 5"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, key: str, lines: str) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"key '{key}' stands twice, in lines {lines}; keep one of them"):
        load_config(file)


def test_a_key_may_stand_beside_what_an_anchor_brings() -> None:
    assert parse_yaml("a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\n", "x")["c"] == {"x": 2, "y": 3}


def test_as_many_frames_may_be_written_as_may_be_stacked() -> None:
    frames = {"environment": {"name": "m", "frame_stack": MOST_FRAMES}}
    assert parse_config({**MINIMAL, **frames}).environment.frame_stack == MOST_FRAMES
    frames["environment"]["frame_stack"] = MOST_FRAMES + 1
    with pytest.raises(ConfigError, match=f"less than or equal to {MOST_FRAMES}"):
        parse_config({**MINIMAL, **frames})
