"""One YAML file configures a run; sections and keys are those of AgileRL's manifests, plus ours.

Dims and units: every `*_steps` is env steps; `max_steps`, `evo_steps`, `learn_step` are per member, `learning_delay`
and `random_steps` per population. Noise scales are in units of the action range mapped to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field, model_validator

from covey.config.algorithm import AlgorithmConfig as AlgorithmConfig
from covey.config.algorithm import OffPolicyAlgorithm as OffPolicyAlgorithm
from covey.config.algorithm import OnPolicyAlgorithm as OnPolicyAlgorithm
from covey.config.manifest import as_sections, translate
from covey.config.section import Section, explain, nearest
from covey.config.yaml_text import parse_yaml, read_yaml
from covey.errors import ConfigError

Updates = Literal["auto", "eager", "recorded", "compiled", "graph"]

Activation = Literal["ReLU", "ELU", "GELU", "Tanh", "Sigmoid", "SiLU", "LeakyReLU", "Softplus", "Identity"]


class RLParameter(Section):
    """The range of an evolvable hyperparameter and the factors it moves by."""

    min: float
    max: float
    grow_factor: float = Field(default=1.2, gt=1)
    shrink_factor: float = Field(default=0.8, gt=0, lt=1)
    dtype: Literal["float", "int"] | None = None  # unset: int where the hyperparameter is one

    @model_validator(mode="after")
    def _ordered(self) -> RLParameter:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Environment(Section):
    """Which environment, and how many copies an actor process steps."""

    name: str = Field(min_length=1)  # "package.module" with parallel_env(), or "package.module:function"
    num_envs: int = Field(default=8, ge=1, le=4096)
    config: dict[str, Any] = Field(default_factory=dict)  # keyword arguments of the function
    groups: dict[str, list[str]] | None = None
    spaces_from: Literal["actor", "local"] = "actor"


class MLPConfig(Section):
    """`encoder_config` and `head_config`."""

    hidden_size: list[int] = Field(default=[64], max_length=32)
    activation: Activation = "ReLU"
    layer_norm: bool = False
    min_hidden_layers: int = Field(default=1, ge=0)
    max_hidden_layers: int = Field(default=3, ge=1, le=32)
    min_mlp_nodes: int = Field(default=16, ge=1)
    max_mlp_nodes: int = Field(default=500, ge=1, le=65536)

    @model_validator(mode="after")
    def _sizes(self) -> MLPConfig:
        if any(not 1 <= n <= 65536 for n in self.hidden_size):
            raise ValueError(f"hidden_size {self.hidden_size}, expected sizes from 1 to 65536")
        return self


class NetConfig(Section):
    """The architecture of one agent's or group's networks."""

    latent_dim: int = Field(default=64, ge=1, le=65536)
    min_latent_dim: int = Field(default=8, ge=1)
    max_latent_dim: int = Field(default=128, ge=1, le=65536)
    encoder_config: MLPConfig = Field(default_factory=MLPConfig)
    head_config: MLPConfig = Field(default_factory=MLPConfig)


class Probabilities(Section):
    """Relative weights of the mutation kinds, and the share of layer mutations within `arch_mut`."""

    no_mut: float = Field(default=0.4, ge=0)
    arch_mut: float = Field(default=0.2, ge=0)
    new_layer: float = Field(default=0.2, ge=0, le=1)
    params_mut: float = Field(default=0.2, ge=0)
    act_mut: float = Field(default=0.0, ge=0)
    rl_hp_mut: float = Field(default=0.2, ge=0)

    @model_validator(mode="after")
    def _some(self) -> Probabilities:
        if self.no_mut + self.arch_mut + self.params_mut + self.act_mut + self.rl_hp_mut <= 0:
            raise ValueError("all mutation kinds have weight 0, expected at least one above 0 (no_mut: 1 switches off)")
        return self


class Mutation(Section):
    """How children differ from their parents."""

    probabilities: Probabilities = Field(default_factory=Probabilities)
    rl_hp_selection: dict[str, RLParameter] = Field(default_factory=dict)  # empty: default ranges
    mutation_sd: float = Field(default=0.1, ge=0)
    activation_selection: list[Activation] = Field(default=["ReLU", "ELU", "GELU"], min_length=1)
    mutate_elite: bool = False
    pre_training: bool = True  # mutate every member once before the first generation


class Selection(Section):
    """Tournament selection."""

    strategy: Literal["tournament"] = "tournament"
    tournament_size: int = Field(default=2, ge=1)
    elitism: bool = True


class Evolution(Section):
    """Who waits for whom when members are compared."""

    mode: Literal["generational", "steady_state"] = "generational"


class ReplayBuffer(Section):
    """The replay memory that the population shares."""

    max_size: int = Field(default=100_000, ge=1, alias="memory_size")
    max_bytes: int = Field(default=8 << 30, ge=1 << 20)


class Fitness(Section):
    """How the returns of an evaluation episode become one number."""

    agents: list[str] | None = None  # unset: all that no opponent plays
    reduce: Literal["sum", "mean"] = "sum"
    opponents: dict[str, Literal["random"] | int] = Field(default_factory=dict)  # who plays an agent in evaluations


class Training(Section):
    """Length and rhythm of the run."""

    max_steps: int = Field(default=1_000_000, ge=1)
    evo_steps: int = Field(default=10_000, ge=1)
    pop_size: int = Field(default=4, ge=1, le=1024)
    eval_steps: int | None = Field(default=None, ge=1)  # longest evaluation episode; unset: EVAL_STEPS_CAP
    eval_loop: int = Field(default=1, ge=1)  # an evaluation is eval_loop x num_envs episodes
    learning_delay: int = Field(default=0, ge=0)
    random_steps: int = Field(default=0, ge=0)  # the population's first env steps are played at random
    target_score: float | None = None
    target_patience: int = Field(default=1, ge=1)  # generations in a row whose best member must reach the target
    confirm_episodes: int = Field(default=100, ge=1)  # fresh episodes behind a reported best and a reached target
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    deterministic: bool = False


class TLS(Section):
    """How the learner shows who it is, and whether its clients have to. Files are read again when they change."""

    certificate: str = Field(min_length=1)
    key: str = Field(min_length=1)
    client_ca: str | None = None  # clients must have a certificate of this CA; unset: they need none


class Learner(Section):
    """The learner process."""

    bind: str = "127.0.0.1:0"
    tls: TLS | None = None
    tokens: str | None = None  # file of lines "role token"; unset: those of COVEY_TOKENS, or everybody is let in
    device: str = "cpu"
    torch_threads: int | None = Field(default=None, ge=1)  # unset: of the cores that local actors leave
    updates: Updates = "auto"  # how updates are run; the older key `compile: true` means "compiled"
    heartbeat_interval_s: float = Field(default=5.0, gt=0)
    max_updates_owed: int = Field(default=64, ge=1)  # a member that owes more gets no collecting orders

    @model_validator(mode="before")
    @classmethod
    def _older_compile(cls, data: Any) -> Any:
        """Read the key that `updates` has replaced: stored runs and users' files have it."""
        if not isinstance(data, Mapping) or "compile" not in data:
            return data
        rest = {key: value for key, value in data.items() if key != "compile"}
        match data["compile"]:
            case None | False:
                return rest
            case True if rest.get("updates") in (None, "compiled"):
                return {**rest, "updates": "compiled"}
        beside = f" beside updates {rest['updates']!r}" if rest.get("updates") is not None else ""
        raise ValueError(
            f"compile {data['compile']!r}{beside}, expected `updates` alone; write `updates: compiled` for what "
            "`compile: true` was, or leave `compile` out"
        )


class Actors(Section):
    """What actors do, and how many `covey train` starts."""

    local: int = Field(default=2, ge=1, le=256)  # actor processes of `covey train`
    vectorisation: Literal["sync", "async"] = "sync"
    max_slots: int | None = Field(default=None, ge=1)  # training slots of one actor; unset: max(num_envs, pop_size)
    fragment_steps: int = Field(default=32, ge=1, le=1024)  # longest stretch of one slot in one order
    turn_steps: int = Field(default=500, ge=1)  # a slot shared by members changes hands after this many
    step_timeout_s: float = Field(default=120.0, gt=0)  # a step or reset of all slots of an actor; longer: it hangs
    compression_level: int = Field(default=1, ge=1, le=19)


class Checkpoint(Section):
    """What a run leaves on disk."""

    keep: int = Field(default=2, ge=1)
    every_s: float = Field(default=300.0, gt=0)  # besides one at the end of every generation
    journal_segment_bytes: int = Field(default=32 << 20, ge=1 << 16)
    journal_sync_s: float | None = Field(default=0.5, ge=0)  # unset: however long it takes
    journal_sync_bytes: int | None = Field(default=8 << 20, ge=1)  # unset: however many there are
    durability: Literal["journal", "received"] = "journal"


class Logging(Section):
    """Metrics."""

    tensorboard: bool = True
    csv: bool = True
    wandb: bool = False
    interval_s: float = Field(default=2.0, gt=0)


class Config(Section):
    """A whole run."""

    name: str = "run"
    algorithm: AlgorithmConfig
    environment: Environment
    network: dict[str, Any] = Field(default_factory=dict)  # resolved by covey.networks.resolve
    mutation: Mutation = Field(default_factory=Mutation)
    selection_strategy: Selection = Field(default_factory=Selection, alias="tournament_selection")
    evolution: Evolution = Field(default_factory=Evolution)
    replay_buffer: ReplayBuffer = Field(default_factory=ReplayBuffer)
    fitness: Fitness = Field(default_factory=Fitness)
    training: Training
    learner: Learner = Field(default_factory=Learner)
    actors: Actors = Field(default_factory=Actors)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    logging: Logging = Field(default_factory=Logging)

    @property
    def train_slots(self) -> int:
        """Training slots of one actor process."""
        return self.actors.max_slots or max(self.environment.num_envs, self.training.pop_size)

    @property
    def eval_slots(self) -> int:
        """Evaluation slots of one actor process: fewer than for training, as copies of an environment take memory."""
        return max(1, self.environment.num_envs // 4)

    @property
    def eval_episodes(self) -> int:
        """Episodes of one evaluation of one member."""
        return self.training.eval_loop * self.environment.num_envs

    @property
    def eval_episode_steps(self) -> int:
        """Env steps after which an evaluation episode is cut off."""
        return self.training.eval_steps or EVAL_STEPS_CAP


EVAL_STEPS_CAP = 10_000


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `section.key=value` overrides (values are YAML).

    The file may be a manifest of AgileRL, see `covey.config.manifest`.

    Raises:
        ConfigError: unreadable, not YAML, or a value that is not acceptable; names the dotted path.
    """
    data = read_yaml(path, f"config {path}")
    if not isinstance(data, dict):
        raise ConfigError(f"config {path}: holds {type(data).__name__}, expected sections such as 'algorithm:'")
    data = as_sections(data)
    for override in overrides:
        apply_override(data, override)
    data.setdefault("name", path.stem)
    return parse_config(translate(data))


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set `section.key=value` in a nested dictionary.

    Raises:
        ConfigError: no such form, or a path through something that is no section.
    """
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"--set {override}: expected section.key=value")
    *parents, key = dotted.split(".")
    at = data
    for parent in parents:
        if at.get(parent) is None:
            at[parent] = {}
        at = at[parent]
        if not isinstance(at, dict):
            raise ConfigError(f"--set {override}: {parent} is no section")
    at[key] = parse_yaml(text, f"--set {override}")


def parse_config(data: Mapping[str, Any]) -> Config:
    """Validate a configuration given as a nested mapping.

    Raises:
        ConfigError: the first value that is not acceptable, with its dotted path and the expectation.
    """
    try:
        config = Config.model_validate(data)
    except pydantic.ValidationError as exc:
        raise ConfigError(explain(exc, Config)) from exc
    evolvable = config.algorithm.evolvable
    for name in config.mutation.rl_hp_selection:
        if name not in evolvable:
            raise ConfigError(
                f"mutation.rl_hp_selection.{name}: no hyperparameter of {config.algorithm.name} that can mutate, "
                f"expected one of {', '.join(evolvable)}{nearest(name, evolvable)}"
            )
    for agent, opponent in config.fitness.opponents.items():
        if isinstance(opponent, int) and not 0 <= opponent < config.training.pop_size:
            raise ConfigError(
                f"fitness.opponents.{agent}: {opponent}: expected 'random' or a member of the first generation, 0 to "
                f"{config.training.pop_size - 1}"
            )
    if config.algorithm.on_policy and config.training.random_steps:
        raise ConfigError(
            f"training.random_steps: {config.training.random_steps}, expected 0 with {config.algorithm.name}, which "
            "learns from nothing but what its own policy played"
        )
    if config.training.deterministic and config.evolution.mode == "steady_state":
        raise ConfigError(
            "evolution.mode: 'steady_state', expected 'generational' with training.deterministic: who is compared with "
            "whom would depend on who is ready first"
        )
    if config.training.deterministic and config.actors.local != 1:
        config = config.model_copy(update={"actors": config.actors.model_copy(update={"local": 1})})
    return config
