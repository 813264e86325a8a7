"""Manifests of AgileRL, in every form in which its multi-agent ones are written."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.manifests import OFF_POLICY, OLDER_OFF_POLICY, OLDER_ON_POLICY, ON_POLICY

from covey.config import Config, OffPolicyAlgorithm, OnPolicyAlgorithm, load_config
from covey.config.architecture import resolve
from covey.config.encoder_choice import encoder_of
from covey.config.evolution import Brackets
from covey.errors import ConfigError
from covey.networks import CNN
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces


def load(tmp_path: Path, text: str, *overrides: str, **changes: dict[str, Any]) -> Config:
    """The configuration of a manifest, with sections updated by `changes` (key None: the section goes)."""
    data = yaml.safe_load(text)
    for section, values in changes.items():
        data[section] = (data.get(section) or {}) | values
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(data) if changes else text)
    return load_config(path, overrides)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert {r.name for r in found} <= {"covey"}
    return [r.getMessage() for r in found]


def test_a_sectioned_off_policy_manifest_is_understood_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    c = load(tmp_path, OFF_POLICY)
    assert warnings(caplog) == []
    a = c.algorithm
    assert isinstance(a, OffPolicyAlgorithm)
    assert (a.name, a.batch_size, a.learn_step, a.gamma) == ("MADDPG", 96, 20, 0.96)
    assert a.model_dump().items() >= {"lr_actor": 0.0003, "tau": 0.002, "theta": 0.2, "dt": 0.02}.items()
    assert (c.environment.name, c.environment.num_envs) == ("mpe2.simple_speaker_listener_v4", 12)
    assert c.mutation.rl_hp_selection["learn_step"].max == 250
    assert (c.replay_buffer.max_size, c.selection_strategy.tournament_size) == (50_000, 3)
    t = c.training
    assert (t.max_steps, t.pop_size, t.evo_steps, t.eval_loop) == (1_500_000, 6, 5_000, 2)
    assert (t.target_score, t.eval_steps, t.learning_delay, t.seed) == (None, None, 100, 7)
    assert c.network["head_config"]["hidden_size"] == [48, 32]
    assert c.fitness.reduce == "sum"


def test_a_sectioned_on_policy_manifest_is_understood_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    c = load(tmp_path, ON_POLICY)
    assert warnings(caplog) == []
    expected = {"lr": 0.0003, "gae_lambda": 0.9, "action_std_init": 0.0, "clip_coef": 0.25, "target_kl": None}
    assert isinstance(c.algorithm, OnPolicyAlgorithm) and c.algorithm.model_dump().items() >= expected.items()
    assert c.algorithm.model_dump().items() >= {"max_grad_norm": 0.7, "update_epochs": 5, "vf_coef": 0.4}.items()
    assert c.mutation.rl_hp_selection["ent_coef"].min == 0.002
    assert c.training.seed == 11


def test_the_older_off_policy_form_says_the_same_in_upper_case(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    c = load(tmp_path, OLDER_OFF_POLICY)
    expected = {"name": "MATD3", "O_U_noise": False, "expl_noise": 0.2, "theta": 0.1, "dt": 0.05, "batch_size": 48}
    assert c.algorithm.model_dump().items() >= expected.items()
    expected = {"lr_actor": 0.0005, "lr_critic": 0.005, "policy_freq": 3, "gamma": 0.97, "learn_step": 24, "tau": 0.003}
    assert c.algorithm.model_dump().items() >= expected.items()
    assert (c.environment.name, c.environment.num_envs) == ("pettingzoo.mpe.simple_speaker_listener_v4", 12)
    t = c.training
    assert (t.max_steps, t.target_score, t.pop_size, t.evo_steps) == (700_000, None, 5, 7_000)
    assert (t.eval_steps, t.eval_loop, t.learning_delay, t.seed) == (None, 2, 50, 19)
    assert (c.replay_buffer.max_size, c.logging.wandb) == (40_000, True)
    assert (c.selection_strategy.tournament_size, c.selection_strategy.elitism) == (3, False)
    assert c.mutation.mutation_sd == 0.3
    assert c.mutation.probabilities.model_dump() == {
        **{"no_mut": 0.3, "arch_mut": 0.1, "new_layer": 0.3, "params_mut": 0.1, "act_mut": 0.1, "rl_hp_mut": 0.4}
    }
    ranges = {name: (r.min, r.max) for name, r in c.mutation.rl_hp_selection.items()}
    assert ranges == {
        "lr_actor": (0.0001, 0.01),
        "lr_critic": (0.0001, 0.01),
        "batch_size": (8, 512),
        "learn_step": (20, 100),
    }
    named = warnings(caplog)
    for key in ("INIT_HP.CHANNELS_LAST", "torch_compiler", "DISTRIBUTED_TRAINING", "head_config.output_activation"):
        assert sum(key in text for text in named) == 1, (key, named)
    assert len(named) == 4


def test_the_older_on_policy_form_with_convolutions_has_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    c = load(tmp_path, OLDER_ON_POLICY)
    expected = {"lr": 0.0002, "gae_lambda": 0.94, "ent_coef": 0.03, "max_grad_norm": 0.4, "target_kl": None}
    assert isinstance(c.algorithm, OnPolicyAlgorithm) and c.algorithm.model_dump().items() >= expected.items()
    assert list(c.mutation.rl_hp_selection) == ["lr", "learn_step"]
    named = warnings(caplog)
    assert not [text for text in named if "channel_size" in text or "flattened" in text]
    spaces = EnvironmentSpaces.build(
        [AgentSpec("a", Box("uint8", (21, 21, 4), (0,) * 1764, (255,) * 1764), Discrete(2))]
    )
    config = resolve(c.network, spaces, False)["a"].encoder_config
    encoder = encoder_of(config, spaces.agents[0].observation, "network", "agent 'a'")
    assert isinstance(encoder, CNN) and encoder.image == (21, 21, 4)
    assert (encoder.channel_size, encoder.kernel_size, encoder.stride_size) == ((16, 16), (6, 3), (3, 2))
    (about,) = [text for text in named if "MIN_ENT_COEF" in text]
    assert "MAX_ENT_COEF" in about


def test_learning_rate_and_its_range_are_those_of_both_networks(tmp_path: Path) -> None:
    data = yaml.safe_load(OLDER_OFF_POLICY)
    del data["INIT_HP"]["LR_ACTOR"], data["INIT_HP"]["LR_CRITIC"]
    data["INIT_HP"]["LR"] = 0.004
    c = load(tmp_path, yaml.safe_dump(data))
    assert c.algorithm.model_dump().items() >= {"lr_actor": 0.004, "lr_critic": 0.004}.items()


def test_keys_of_parameter_mutations_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = {"amplified_gauss_param_mut": True, "random_reset_param_mut": True, "super_param_mut": False}
    more = {"regrama_param_mut": True, "dormant_threshold": 0.02}
    load(tmp_path, OFF_POLICY, mutation=keys | more)
    (text,) = warnings(caplog)
    assert all(text.count(f"mutation.{key}") == 1 for key in keys | more)
    assert "adds noise of mutation_sd" in text


def test_multi_frequency_selection_is_what_the_manifest_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = yaml.safe_load(ON_POLICY)
    brackets = {"n_subpopulations": 2, "n_winners": 2, "n_survivors": 0, "n_open_for_migration": 1, "n_losers": 3}
    data["selection_strategy"] = {"strategy": "multi_frequency", "evolution_frequency_ratios": [1, 4], **brackets}
    data["training"]["pop_size"] = 12
    c = load(tmp_path, yaml.safe_dump(data))
    assert (c.selection_strategy.strategy, c.training.pop_size) == ("multi_frequency", 12)
    assert c.selection_strategy.brackets(12) == Brackets(6, (1, 4), 2, 0, 1, 3)
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("algorithm", {"torch_compiler": "default"}, ["algorithm.torch_compiler"]),
        ("algorithm", {"vect_noise_dim": 12}, ["algorithm.vect_noise_dim"]),
        ("mutation", {"network": {"min_latent_dim": 4}}, ["mutation.network", "limits"]),
        ("network", {"encoder_config": {"sample_input": [3, 8, 8]}}, ["network.encoder_config.sample_input"]),
        (
            "network",
            {"speaker_0": {"head_config": {"output_vanish": True}}},
            ["network.speaker_0.head_config.output_van"],
        ),
        (
            "training",
            {"checkpoint_steps": 1000, "overwrite_checkpoints": True},
            ["checkpoint_steps", "checkpoint.every_s"],
        ),
        ("environment", {"path": "envs"}, ["environment.path", "PYTHONPATH"]),
        ("replay_buffer", {"n_step_buffer_args": {"n_step": 3}}, ["replay_buffer.n_step_buffer_args", "uniform"]),
    ],
)
def test_a_key_without_meaning_is_named_with_what_happens_instead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, section: str, values: dict[str, Any], words: list[str]
) -> None:
    load(tmp_path, OFF_POLICY, **{section: values})
    (text,) = warnings(caplog)
    assert all(word in text for word in words), text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("network", {"simba": 3}, ["network.simba: 3", "true or false"]),
        ("network", {"encoder_cls": "Other"}, ["network.encoder_cls: 'Other'", "encoder_config.module"]),
        ("network", {"squash_output": True}, ["network.squash_output: True", "clipped"]),
        ("network", {"encoder_config": {"block_type": "Conv3d"}}, ["block_type: 'Conv3d'"]),
        ("replay_buffer", {"per_buffer": True}, ["replay_buffer.per_buffer", "uniformly"]),
        ("environment", {"wrappers": ["x.y"]}, ["environment.wrappers", "package.module:function"]),
        ("training", {"hpo": False}, ["training.hpo", "no_mut"]),
        ("algorithm", {"normalize_images": False}, ["algorithm.normalize_images"]),
        ("replay_buffer", {"memory_size": 3}, ["replay_buffer.memory_size", "replay_buffer.max_size", "keep one"]),
        ("training", {"polulation": 3}, ["training.polulation: unknown key"]),
        ("mutation", {"regrama": True}, ["mutation.regrama: unknown key"]),
        ("algorithm", {"lr_actr": 1}, ["algorithm.lr_actr: unknown key; did you mean 'lr_actor'?"]),
    ],
)
def test_what_would_be_another_experiment_is_an_error(
    tmp_path: Path, section: str, values: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, OFF_POLICY, **{section: values})
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_values_that_say_what_happens_anyway_are_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(
        tmp_path,
        OFF_POLICY,
        network={"arch": "mlp", "simba": False, "squash_output": False},
        replay_buffer={"standard_buffer": True, "per_buffer": False},
        environment={"wrappers": []},
        training={"hpo": True, "sum_scores": True},
    )
    assert warnings(caplog) == []


def test_names_of_keys_and_sections_that_changed_over_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = yaml.safe_load(OFF_POLICY)
    data["tournament_selection"] = data.pop("selection_strategy")
    data["replay_buffer"] = {"memory_size": 123}
    data["training"]["population_size"] = data["training"].pop("pop_size")
    data["training"]["sum_scores"] = False
    data["environment"] |= {"entrypoint": "tests.support.environments:Drone", "env_config": {"steps": 3}, "sync": False}
    c = load(tmp_path, yaml.safe_dump(data))
    assert (c.selection_strategy.tournament_size, c.replay_buffer.max_size, c.training.pop_size) == (3, 123, 6)
    assert c.fitness.reduce == "mean"
    assert (c.environment.name, c.environment.config) == ("tests.support.environments:Drone", {"steps": 3})
    assert c.actors.vectorisation == "async"
    assert warnings(caplog) == []


def test_the_seed_of_mutations_yields_to_the_run_s(tmp_path: Path) -> None:
    assert load(tmp_path, OFF_POLICY, training={"seed": 0}).training.seed == 0
    assert load(tmp_path, OFF_POLICY, "training.seed=5").training.seed == 5
    assert load(tmp_path, OFF_POLICY, "mutation.rand_seed=6").training.seed == 6


def test_overrides_reach_the_older_form_by_section(tmp_path: Path) -> None:
    c = load(
        tmp_path, OLDER_OFF_POLICY, "training.max_steps=500", "algorithm.lr_actor=0.5", "training.sum_scores=false"
    )
    assert (c.training.max_steps, c.fitness.reduce) == (500, "mean")
    assert c.algorithm.model_dump()["lr_actor"] == 0.5


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"INIT_HP": {"LR_ACTR": 1}}, r"^INIT_HP.LR_ACTR: unknown key; did you mean 'LR_ACTOR'\?"),
        ({"MUTATION_PARAMS": {"RL_HP_SELECTION": ["tau"]}}, r"^MUTATION_PARAMS.MIN_TAU: missing"),
        ({"MUTATION_PARAMS": {"RL_HP_SELECTION": "lr"}}, r"^MUTATION_PARAMS.RL_HP_SELECTION: 'lr': expected a list"),
        ({"INIT_HP": {"EPISODES": 10}}, r"^INIT_HP.EPISODES: 10 .*MAX_STEPS"),
        (
            {"INIT_HP": {"ALGO": "DQN"}},
            r"^algorithm.name: 'DQN': expected one of 'IPPO', 'MADDPG', 'MAPPO', 'MATD3', 'PQN', 'QMIX', 'VDN'",
        ),
        ({"training": {"pop_size": 3}}, r"^INIT_HP.POP_SIZE is training.pop_size under another name"),
    ],
)
def test_errors_of_the_older_form_name_its_keys(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load(tmp_path, OLDER_OFF_POLICY, **changes)


def test_a_hyperparameter_of_another_algorithm_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(tmp_path, OLDER_ON_POLICY, INIT_HP={"TAU": 0.01, "POLICY_FREQ": 2})
    (text,) = [t for t in warnings(caplog) if "TAU" in t]
    assert "INIT_HP.POLICY_FREQ" in text and "IPPO has no such hyperparameter" in text
