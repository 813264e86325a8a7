"""What a training function is given once more is compared with what its objects were made of; the rest is listed."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.support.environments import CounterEnv

from covey import HyperparameterConfig, RLParameter
from covey.config.manifest_keys import OLDER, Ignored, Refused
from covey.envs.vector import SyncPettingZooVecEnv
from covey.errors import ConfigError
from covey_server import (
    MultiAgentReplayBuffer,
    Mutations,
    TournamentSelection,
    create_population,
    train_multi_agent_off_policy,
    train_multi_agent_on_policy,
)

NET = {"latent_dim": 8, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [16]}}
INIT_HP = {
    **{"ALGO": "MADDPG", "POPULATION_SIZE": 2, "BATCH_SIZE": 16, "LEARN_STEP": 10, "LR_ACTOR": 0.002, "GAMMA": 0.9},
    **{"O_U_NOISE": False, "MEMORY_SIZE": 500, "NUM_ENVS": 4, "TOURN_SIZE": 2, "ELITISM": True, "MAX_STEPS": 10},
    **{"EVO_STEPS": 10, "EVAL_STEPS": 4, "EVAL_LOOP": 1, "LEARNING_DELAY": 0, "WANDB": False, "TARGET_SCORE": None},
}
MUT_P = {
    **{"NO_MUT": 1, "ARCH_MUT": 0, "NEW_LAYER": 0.5, "PARAMS_MUT": 0, "ACT_MUT": 0, "RL_HP_MUT": 0, "MUT_SD": 0.2},
    **{"RAND_SEED": 3, "RL_HP_SELECTION": ["lr", "batch_size"], "MIN_LR": 1e-4, "MAX_LR": 1e-2, "MIN_BATCH_SIZE": 8},
    **{"MAX_BATCH_SIZE": 64},
}
SETTINGS = ("ALGO", "POPULATION_SIZE", "MEMORY_SIZE", "TOURN_SIZE", "ELITISM", "WANDB", "TARGET_SCORE", "NUM_ENVS")
ARGUMENTS = ("MAX_STEPS", "EVO_STEPS", "EVAL_STEPS", "EVAL_LOOP", "LEARNING_DELAY")


def created(env: SyncPettingZooVecEnv, algo: str = "MADDPG", **more: Any) -> Any:
    rate = RLParameter(min=1e-4, max=1e-2)
    names = ("lr",) if algo == "IPPO" else ("lr_actor", "lr_critic")
    hyperparameters = {k: v for k, v in INIT_HP.items() if k not in (*SETTINGS, *ARGUMENTS)}
    if algo == "IPPO":
        hyperparameters = {"BATCH_SIZE": 16, "LEARN_STEP": 10}
    return create_population(
        algo,
        {a: env.single_observation_space(a) for a in env.agents},
        {a: env.single_action_space(a) for a in env.agents},
        NET,
        hyperparameters | more,
        HyperparameterConfig(**dict.fromkeys(names, rate), batch_size=RLParameter(min=8, max=64)),
        population_size=2,
        num_envs=4,
    )


def off_policy(init_hp: dict[str, Any], mut_p: dict[str, Any], tournament: bool = True) -> Any:
    """Train a short time with these dictionaries beside objects that were made of `INIT_HP` and `MUT_P`."""
    env = SyncPettingZooVecEnv([CounterEnv] * 4)
    return train_multi_agent_off_policy(
        env,
        "counter",
        "MADDPG",
        created(env),
        MultiAgentReplayBuffer(500),
        INIT_HP=init_hp,
        MUT_P=mut_p,
        tournament=TournamentSelection(2, True, 2) if tournament else None,
        mutation=Mutations(1, 0, 0.5, 0, 0, 0, mutation_sd=0.2, rand_seed=3),
        max_steps=10,
        evo_steps=10,
        eval_steps=4,
        verbose=False,
    )


def test_what_everything_was_made_of_is_taken_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="covey"):
        trained, _ = off_policy({**INIT_HP, "AGENT_IDS": ["caller_0", "walker_1", "walker_0"]}, MUT_P)
    assert len(trained) == 2 and not caplog.messages


POPULATION = "which the population was created with; pass it to create_population"
GIVEN = "which the other arguments of the training function say; pass it there"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"BATCH_SIZE": 32}, f"BATCH_SIZE 32, expected 16, {POPULATION}"),
        (
            {"LEARN_STEP": 5, "O_U_NOISE": True},
            f"LEARN_STEP 5, expected 10; O_U_NOISE True, expected False, {POPULATION}",
        ),
        ({"AGENT_IDS": ["walker_0"]}, f"['walker_0'], expected ['walker_0', 'caller_0', 'walker_1'], {POPULATION}"),
        ({"MEMORY_SIZE": 100}, "100, expected 500, which memory was created with; pass it to MultiAgentReplayBuffer"),
        ({"NUM_ENVS": 8}, "NUM_ENVS 8, expected 4, which env has; pass it to make_multi_agent_vect_envs"),
        ({"TOURN_SIZE": 3}, "3, expected 2, which tournament was created with; pass it to TournamentSelection"),
        ({"ELITISM": False}, "ELITISM False, expected True, which tournament was created with"),
        ({"MAX_STEPS": 20}, f"MAX_STEPS 20, expected 10, {GIVEN}"),
        ({"EVO_STEPS": 5, "TARGET_SCORE": 3}, f"EVO_STEPS 5, expected 10; TARGET_SCORE 3, expected None, {GIVEN}"),
        ({"LEARNING_DELAY": 9}, f"LEARNING_DELAY 9, expected 0, {GIVEN}"),
        (
            {"MEMORY_SIZE": 1, "GAMMA": 0.5},
            f"GAMMA 0.5, expected 0.9, {POPULATION}; MEMORY_SIZE 1, expected 500, which memory",
        ),
    ],
)
def test_another_value_in_init_hp_is_refused_with_who_has_which(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"^INIT_HP: .*expected") as refused:
        off_policy({**INIT_HP, **changes}, MUT_P)
    assert sentence in str(refused.value)


RANGES = "which the population's hyperparameters have; pass it to create_population as hp_config"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"MIN_LR": 1e-5}, f"MIN_LR_ACTOR 1e-05, expected 0.0001; MIN_LR_CRITIC 1e-05, expected 0.0001, {RANGES}"),
        ({"MAX_LR_CRITIC": 0.5}, f"MAX_LR_CRITIC 0.5, expected 0.01, {RANGES}"),
        ({"MIN_BATCH_SIZE": 4, "MAX_BATCH_SIZE": 9}, "MIN_BATCH_SIZE 4, expected 8; MAX_BATCH_SIZE 9, expected 64, "),
        ({"RL_HP_SELECTION": ["lr"]}, "['lr'], expected ['lr_actor', 'lr_critic', 'batch_size'], " + RANGES),
        (
            {"ARCH_MUT": 0.4, "MAX_LR": 1},
            "ARCH_MUT 0.4, expected 0.0, which mutation was created with; pass it to Mutations; MAX_LR_ACTOR 1, ",
        ),
    ],
)
def test_another_value_in_mut_p_is_refused_with_who_has_which(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"^MUT_P: .*expected") as refused:
        off_policy(INIT_HP, {**MUT_P, **changes})
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("init_hp", "mut_p", "says"),
    [
        ({"BATCHSIZE": 16}, {}, "INIT_HP.BATCHSIZE: unknown key; did you mean 'BATCH_SIZE'?"),
        ({"EPISODES": 16}, {}, "INIT_HP.EPISODES: 16 has no meaning here; lengths are env steps here"),
        ({}, {"NO_MUTATION": 1}, "MUT_P.NO_MUTATION: unknown key; did you mean 'NO_MUT'?"),
        ({}, {"MIN_BATCHES": 1}, "MUT_P.MIN_BATCHES: unknown key; did you mean 'MIN_BATCH_SIZE'?"),
    ],
)
def test_a_key_that_means_nothing_is_refused(init_hp: dict[str, Any], mut_p: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        off_policy(INIT_HP | init_hp, MUT_P | mut_p)
    assert str(refused.value).startswith(says)


def test_keys_of_which_nothing_was_made_are_listed_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="covey"):
        off_policy(
            INIT_HP | {"ENV_NAME": "counter", "CHANNELS_LAST": True, "POLICY_FREQ": 2, "TORCH_COMPILE": "default"},
            MUT_P | {"MIN_LEARN_STEP": 5, "MAX_ENT_COEF": 1},
            tournament=False,
        )
    assert caplog.messages == [
        "INIT_HP.TOURN_SIZE, INIT_HP.ELITISM: not compared with anything: no tournament is given, so nothing is "
        "selected",
        "INIT_HP.ENV_NAME: not compared with anything: the environments are those of env",
        "INIT_HP.TORCH_COMPILE: not compared with anything: updates run as the learner chooses",
        "INIT_HP.CHANNELS_LAST: no meaning here, left out: which axis has an image's channels is found by their "
        "lengths; network.encoder_config.channels says it",
        "INIT_HP.POLICY_FREQ: no meaning here, left out: MADDPG has no such hyperparameter",
        "MUT_P.MIN_LEARN_STEP, MUT_P.MAX_ENT_COEF: not compared with anything: hp_config of create_population does not "
        "name the hyperparameter",
    ]


def test_on_policy_training_has_no_memory_and_one_learning_rate(caplog: pytest.LogCaptureFixture) -> None:
    env = SyncPettingZooVecEnv([CounterEnv] * 4)
    pop = created(env, "IPPO")
    mutation = Mutations(1, 0, 0.5, 0, 0, 0, mutation_sd=0.2, rand_seed=3)

    def train(init_hp: dict[str, Any], mut_p: dict[str, Any]) -> Any:
        return train_multi_agent_on_policy(
            env,
            "counter",
            "IPPO",
            pop,
            INIT_HP=init_hp,
            MUT_P=mut_p,
            mutation=mutation,
            max_steps=10,
            evo_steps=10,
            eval_steps=4,
            verbose=False,
        )

    with pytest.raises(ConfigError, match=r"^MUT_P: MIN_LR 1e-05, expected 0\.0001, which the population's"):
        train({}, MUT_P | {"MIN_LR": 1e-5})
    with pytest.raises(ConfigError, match=r"^INIT_HP: LR 0\.5, expected 0\.0001, which the population"):
        train({"LR": 0.5}, MUT_P)
    with caplog.at_level(logging.WARNING, logger="covey"):
        train({"LR": 1e-4, "MEMORY_SIZE": 5, "LEARNING_DELAY": 7, "UPDATE_EPOCHS": 4}, MUT_P)
    assert caplog.messages == [
        "INIT_HP.MEMORY_SIZE, INIT_HP.LEARNING_DELAY: not compared with anything: IPPO has no replay memory"
    ]


TAKEN = [key for key, rule in OLDER.items() if not isinstance(rule, Ignored | Refused)]


@pytest.mark.parametrize("path", [key for key in TAKEN if key.startswith(("INIT_HP.", "MUTATION_PARAMS."))])
def test_no_key_that_a_manifest_may_have_is_passed_over(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each is refused with a value that nothing was made of, or listed."""
    section, _, key = path.partition(".")
    given: dict[str, Any] = {key: 123456}
    try:
        with caplog.at_level(logging.WARNING, logger="covey"):
            off_policy(given if section == "INIT_HP" else {}, given if section != "INIT_HP" else {})
    except ConfigError as exc:
        assert f"{key} 123456, expected " in str(exc)
    else:
        assert f"{section}.{key}: not compared with anything: " in caplog.text
