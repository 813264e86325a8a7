"""Tables of the keys of AgileRL's manifests that covey does not have, and what becomes of each.

The rule behind the tables: a key that cannot change what is learned is left out with a warning. So is a key that asks
for a kind of selection, mutation or encoding that covey does not have, as long as the run remains the experiment that
the file describes; the warning says what happens instead. A value that makes it another experiment (a recurrent policy,
a wrapped environment, a prioritised replay) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Rule:
    """Base class: what becomes of a key. Where `when` is given, the rule holds for these values of the key alone."""

    when: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved(Rule):
    """The value belongs to another key of covey's.

    Attributes:
        to: Dotted path of that key; from the same section on where it begins with a dot.
        values: What some values become; None: the key is not set. Other values stay as they are.
        clash: What happens if that key is given too: an error, or the moved value yields to the other, or wins over it.
    """

    to: str = ""
    values: Mapping[Any, Any] | None = None
    clash: Literal["error", "yields", "wins"] = "error"


@dataclass(frozen=True, slots=True)
class Dropped(Rule):
    """The key is left out silently: it asks for what covey does anyway."""


@dataclass(frozen=True, slots=True)
class Ignored(Rule):
    """The key is left out with a warning, which ends with `instead`: what happens instead."""

    instead: str = ""


@dataclass(frozen=True, slots=True)
class Refused(Rule):
    """The key is an error, which ends with `instead`: what to do instead."""

    instead: str = ""


def _unless(value: Any, instead: str) -> tuple[Rule, ...]:
    """Rules of a key of which one value asks for what covey does anyway, and every other value is refused."""
    return Dropped(when=(value,)), Refused(instead=instead)


_PARAMETERS = Ignored(
    instead="a parameter mutation resets 5 % of the weights it draws and adds noise of mutation_sd to the others"
)
_OTHER_ENCODER = "encoders are MLPs, CNNs or both (multi_input), SimBa or ResNet; leave out the key to train one"
_LSTM = ("lstm", "cnn_lstm", "multi_input_lstm")
"""AgileRL's kinds of encoder with memory: an LSTM behind an encoder, where covey has a GRU."""
_HEAD = "a head is an MLP; leave out the key"
_OUTPUTS = Ignored(
    instead="a policy's outputs are mapped to the bounds of its action space, a critic's stay as they are"
)
_INITIAL = Ignored(
    instead="layers start uniformly, or with algorithm.orthogonal_init orthogonally, a policy's last one scaled by "
    "algorithm.output_gain"
)
_CHECKPOINTS = Ignored(
    instead="the run directory keeps checkpoints: one a generation and one every checkpoint.every_s seconds"
)
_OTHER_TRAINING = Ignored(instead="it concerns no multi-agent training")
_UNIFORM = "replay is sampled uniformly, one step at a time; leave out the key"

_LAYERS: dict[str, Rule | tuple[Rule, ...]] = {
    "output_activation": _OUTPUTS,
    "output_layernorm": _OUTPUTS,
    "output_vanish": _INITIAL,
    "init_layers": _INITIAL,
    "new_gelu": Ignored(instead="GELU is the exact one"),
    "noise_std": Ignored(instead="layers have no noise"),
    "noisy": _unless(False, "layers have no noise; leave out the key"),
}

RULES: dict[str, Rule | tuple[Rule, ...]] = {
    "tournament_selection": Moved(to="selection_strategy"),
    "algorithm.torch_compiler": Ignored(
        instead="members of one structure are updated in one pass, compiled where learner.updates says so"
    ),
    "algorithm.vect_noise_dim": Ignored(instead="every environment has exploration noise of its own"),
    "algorithm.action_batch_size": Ignored(instead="an actor decides for all its environments in one pass"),
    "algorithm.normalize_images": _unless(True, "integers with bounds are always scaled to [0, 1]; leave out the key"),
    "algorithm.recurrent": _unless(False, "write network.encoder_config: {recurrent: true}"),
    "algorithm.max_seq_len": Moved(to="algorithm.bptt_steps"),
    "algorithm.bptt_sequence_type": Ignored(instead="sequences follow each other, each of algorithm.bptt_steps"),
    "environment.entrypoint": Moved(to="environment.name", clash="wins"),
    "environment.env_config": Moved(to="environment.config"),
    "environment.path": Ignored(instead="modules are found where Python finds them; add the folder to PYTHONPATH"),
    "environment.sync": Moved(to="actors.vectorisation", values={True: "sync", False: "async"}),
    "environment.wrappers": Refused(
        instead="write a function that returns the wrapped environment and name it: package.module:function"
    ),
    "environment.env_wrappers": Refused(
        instead="write a function that returns the wrapped environment and name it: package.module:function"
    ),
    "environment.factory": Refused(instead="name the function that builds the environment: package.module:function"),
    "mutation.name": Ignored(instead="there is one kind of mutation, described by the other keys"),
    "mutation.network": Ignored(
        instead="mutations stay within the limits that network and its encoder_config and head_config give"
    ),
    "mutation.rand_seed": Moved(to="training.seed", clash="yields"),
    "mutation.super_param_mut": _PARAMETERS,
    "mutation.amplified_gauss_param_mut": _PARAMETERS,
    "mutation.random_reset_param_mut": _PARAMETERS,
    "mutation.regrama_param_mut": _PARAMETERS,
    "mutation.dormant_reset_param_mut": _PARAMETERS,
    "mutation.dormant_threshold": _PARAMETERS,
    "mutation.dormant_tau": _PARAMETERS,
    "mutation.overact_beta": _PARAMETERS,
    "mutation.regrama_out_scale": _PARAMETERS,
    "network.arch": (
        Moved(when=("mlp", "cnn", "multi_input", "simba", "resnet"), to=".encoder_config.kind", clash="yields"),
        Moved(when=_LSTM, to=".encoder_config.recurrent", values=dict.fromkeys(_LSTM, True), clash="yields"),
        Refused(instead=_OTHER_ENCODER),
    ),
    "network.simba": (
        Dropped(when=(False,)),
        Moved(when=(True,), to=".encoder_config.kind", values={True: "simba"}, clash="yields"),
        Refused(instead="write true or false"),
    ),
    "network.encoder_cls": (
        Moved(when=("ResNet",), to=".encoder_config.kind", values={"ResNet": "resnet"}, clash="yields"),
        Dropped(when=(None,)),
        Refused(instead="name a kind of encoder as encoder_config.kind, or a module as encoder_config.module"),
    ),
    "network.recurrent": (Dropped(when=(False,)), Moved(to=".encoder_config.recurrent")),
    "network.squash_output": _unless(
        False, "samples of a Gaussian policy are clipped to the action's bounds, not squashed; leave out the key"
    ),
    "network.encoder_config.arch": Moved(
        when=_LSTM, to=".recurrent", values=dict.fromkeys(_LSTM, True), clash="yields"
    ),
    "network.encoder_config.num_layers": _unless(1, "a policy's memory is one GRU layer; leave out the key"),
    "network.encoder_config.sample_input": Ignored(instead="an image's size is that of the observation space"),
    "network.encoder_config.init_dicts": Ignored(instead="all images get convolutions of encoder_config's sizes"),
    "network.encoder_config.vector_space_mlp": (
        Dropped(when=(True,)),
        Ignored(instead="all that is no image goes through an MLP of hidden_size"),
    ),
    **{
        f"network.{at}.block_type": _unless("Conv2d", "convolutions have two dimensions; leave out the key")
        for at in ("encoder_config", "cnn_config")
    },
    "network.head_config.arch": (Dropped(when=("mlp",)), Refused(instead=_HEAD)),
    **{
        f"network.{at}.{key}": rule
        for at in ("encoder_config", "cnn_config", "mlp_config", "head_config")
        for key, rule in _LAYERS.items()
    },
    "replay_buffer.memory_size": Moved(to="replay_buffer.max_size"),
    "replay_buffer.standard_buffer": _unless(True, _UNIFORM),
    "replay_buffer.n_step_buffer": _unless(False, _UNIFORM),
    "replay_buffer.per_buffer": _unless(False, _UNIFORM),
    "replay_buffer.n_step_buffer_args": Ignored(instead=_UNIFORM.partition(";")[0]),
    "replay_buffer.per_buffer_args": Ignored(instead=_UNIFORM.partition(";")[0]),
    "selection_strategy.n_individuals_per_subpopulation": Ignored(
        instead="training.pop_size is divided by n_subpopulations"
    ),
    "selection_strategy.rand_seed": Moved(to="training.seed", clash="yields"),
    "selection_strategy.seed": Moved(to="training.seed", clash="yields"),
    "training.population_size": Moved(to="training.pop_size"),
    "training.metrics_interval": Moved(to="training.evo_steps"),
    "training.replay_buffer": Moved(to="replay_buffer"),
    "training.sum_scores": Moved(to="fitness.reduce", values={True: None, False: "mean"}),
    "training.hpo": _unless(
        True, "one member without mutation is training.pop_size: 1, mutation.probabilities.no_mut: 1"
    ),
    **{
        f"training.{key}": _CHECKPOINTS
        for key in (
            *("checkpoint", "checkpoint_steps", "checkpoint_path", "overwrite_checkpoints", "save_elite", "elite_path"),
        )
    },
    **{
        f"training.{key}": _OTHER_TRAINING
        for key in (
            *("eps_start", "eps_end", "eps_decay", "evaluation_interval", "num_epochs", "max_wall_seconds"),
            *("episode_steps", "reporting_interval"),
        )
    },
    "training.experience_sharing": Ignored(instead="members learn from the replay of the whole population"),
}
"""What becomes of a key, by dotted path; of several rules, the first that holds for the value.

Paths under `network` stand without the id of an agent or group.
"""

_BOUNDS = Ignored(instead="actions have the bounds of the environment's action space")
_EPISODES = Refused(instead="lengths are env steps here; give MAX_STEPS and EVO_STEPS")

OLDER: dict[str, str | Rule] = {
    "DISTRIBUTED_TRAINING": Ignored(instead="one learner updates the whole population; more actors make it faster"),
    "NET_CONFIG": "network",
    "INIT_HP.ENV_NAME": "environment.name",
    "INIT_HP.ENV_CONFIG": "environment.config",
    "INIT_HP.NUM_ENVS": "environment.num_envs",
    "INIT_HP.ALGO": "algorithm.name",
    "INIT_HP.MEMORY_SIZE": "replay_buffer.max_size",
    "INIT_HP.TOURN_SIZE": "selection_strategy.tournament_size",
    "INIT_HP.ELITISM": "selection_strategy.elitism",
    "INIT_HP.POPULATION_SIZE": "training.pop_size",
    **{
        f"INIT_HP.{key.upper()}": f"training.{key}"
        for key in (
            *("max_steps", "target_score", "pop_size", "evo_steps", "eval_steps", "eval_loop", "learning_delay"),
            "sum_scores",
        )
    },
    "INIT_HP.WANDB": "logging.wandb",
    "INIT_HP.TORCH_COMPILE": "algorithm.torch_compiler",
    "INIT_HP.TORCH_COMPILER": "algorithm.torch_compiler",
    "INIT_HP.CHANNELS_LAST": Ignored(
        instead="which axis has an image's channels is found by their lengths; network.encoder_config.channels says it"
    ),
    "INIT_HP.MIN_ACTION": _BOUNDS,
    "INIT_HP.MAX_ACTION": _BOUNDS,
    "INIT_HP.AGENT_IDS": Ignored(instead="the environment says who its agents are"),
    "INIT_HP.EPISODES": _EPISODES,
    "INIT_HP.EVO_EPOCHS": _EPISODES,
    **{
        f"MUTATION_PARAMS.{key.upper()}": f"mutation.probabilities.{key}"
        for key in ("no_mut", "arch_mut", "new_layer", "params_mut", "act_mut", "rl_hp_mut")
    },
    "MUTATION_PARAMS.MUT_SD": "mutation.mutation_sd",
    "MUTATION_PARAMS.RAND_SEED": "mutation.rand_seed",
    "MUTATION_PARAMS.MUTATE_ELITE": "mutation.mutate_elite",
}
"""Keys of the older form, with upper-case sections: the path of each in the newer form, or what becomes of it.

`INIT_HP` has the keys of `algorithm` too, in upper case; `covey.config.manifest.as_sections` adds those.
"""
