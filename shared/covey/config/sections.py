"""Models of a configuration's sections, but those of the algorithm, the networks and evolution, which have files.

Each key has its default, its bounds and its meaning, which `docs/configuration.md` and `covey schema` show. Units end a
name: `_s` seconds, `_bytes` bytes, `_steps` env steps (one `step()` of one environment, however many agents it has).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from covey.config.section import OnResume, Section
from covey.wire.limits import MAX_COMPRESSION_LEVEL, MAX_SLOTS

Updates = Literal["auto", "eager", "recorded", "compiled", "graph"]
"""How updates are run; see `Learner.updates`."""

EVAL_STEPS_CAP = 10_000
"""Env steps after which an evaluation episode is cut off where `training.eval_steps` does not say."""


class Environment(Section):
    """The environment, and how many copies of it an actor process steps."""

    name: Annotated[str, OnResume.FIXED] = Field(
        min_length=1,
        description="Environment to train in: a module with a function `parallel_env` or `env`, such as "
        "`mpe2.simple_spread_v3`, a function of your own as `package.module:function` or `./file.py:function`, or a "
        "gymnasium environment as `package:ID`.",
    )
    num_envs: int = Field(
        default=8,
        ge=1,
        le=MAX_SLOTS,
        description="Copies of the environment that one actor process trains in, where `actors.max_slots` does not say "
        "otherwise. An evaluation plays `training.eval_loop` x `num_envs` episodes at most.",
    )
    config: Annotated[dict[str, Any], OnResume.FIXED] = Field(
        default_factory=dict, description="Keyword arguments of the function that builds the environment."
    )
    evaluation: Annotated[dict[str, Any], OnResume.FIXED] = Field(
        default_factory=dict,
        description="Keyword arguments of that function in evaluations alone, such as longer episodes or fixed maps; "
        "they come on top of `config` or in its place. Agents and spaces must be those of training. Actors from before "
        "there was this key are refused in a run that sets it.",
    )
    groups: Annotated[dict[str, list[str]] | None, OnResume.FIXED] = Field(
        default=None,
        description="Agents that are alike, as group id: list of agent ids, with every agent in exactly one group. "
        "null: agents form a group if their spaces are equal and so are their ids up to the last `_`.",
    )
    ignore_observations: Annotated[list[str], OnResume.FIXED] = Field(
        default_factory=list,
        description="Parts of observations that are a Dict or Tuple which are left out, by their dotted names, such as "
        "`mission` or `inventory.0`: text, and what else networks shall not read.",
    )
    frame_stack: Annotated[int, OnResume.FIXED] = Field(
        default=1,
        ge=1,
        le=16,
        description="How many of an agent's last observations its networks read, joined into one: of images the "
        "channels, so that 4 frames of 84 x 84 pixels are an image of 4 channels; of everything else the numbers, one "
        "observation after another. At the beginning of an episode its first observation stands for those before it. "
        "For environments in which one observation does not show what moves, and how fast. All agents must act in "
        "every env step. Actors from before there was this key are refused in a run that sets it.",
    )
    state: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether what the environment's `state()` gives, the state of all of it, is sent and kept with "
        "every env step. MAPPO's value networks and QMIX's mixer then read it, in place of other agents' observations; "
        "no other network does. Actors from before there was this key are refused in a run that sets it.",
    )
    spaces_from: Literal["actor", "local"] = Field(
        default="actor",
        description="How the learner gets to know agents and spaces. `actor`: the first actor tells it, and the "
        "learner's machine needs no environment; `local`: it builds the environment once, as `covey train` always "
        "does.",
    )

    @property
    def evaluation_config(self) -> dict[str, Any]:
        """Keyword arguments of the environment's function in evaluations."""
        return {**self.config, **self.evaluation}


class ReplayBuffer(Section):
    """The replay memory, which the whole population shares; on-policy algorithms have none."""

    max_size: int = Field(
        default=100_000,
        ge=1,
        alias="memory_size",
        description="Env steps that the replay memory holds; new ones then replace the oldest.",
    )
    max_bytes: int = Field(
        default=8 << 30,
        ge=1 << 20,
        description="Bytes that the replay memory may take when it is full; where `max_size` steps would need more, it "
        "holds fewer. On a CPU they are taken as env steps come, on CUDA all at once.",
    )


class Training(Section):
    """How long the run is, how often members are compared, and by how many episodes."""

    max_steps: int = Field(
        default=1_000_000,
        ge=1,
        description="Env steps of each member, its ancestors' included, after which the run ends.",
    )
    evo_steps: Annotated[int, OnResume.FIXED] = Field(
        default=10_000, ge=1, description="Env steps of each member between two evaluations: a generation."
    )
    pop_size: Annotated[int, OnResume.FIXED] = Field(default=4, ge=1, le=1024, description="Members of the population.")
    eval_steps: int | None = Field(
        default=None,
        ge=1,
        description=f"Env steps after which an evaluation episode is cut off. null: {EVAL_STEPS_CAP:,}.",
    )
    eval_loop: int = Field(
        default=1,
        ge=1,
        description="An evaluation plays `eval_loop` x `environment.num_envs` episodes. A member plays no more; where "
        "those of all members would cost more than a tenth of the env steps trained with, the worse half of them stops "
        "after a first part, then the worse half of those left.",
    )
    learning_delay: int = Field(
        default=0,
        ge=0,
        description="Env steps that the replay memory must hold before members learn; it always waits for a batch.",
    )
    random_steps: int = Field(
        default=0,
        ge=0,
        description="Env steps at the start of the run, of the population as a whole, in which actions are drawn at "
        "random. Off-policy algorithms only.",
    )
    target_score: float | None = Field(
        default=None,
        description="Fitness at which the run ends early, once `confirm_episodes` fresh episodes of the best member "
        "have confirmed it. null: the run goes on to `max_steps`.",
    )
    target_patience: int = Field(
        default=1,
        ge=1,
        description="Generations in a row whose best member must reach `target_score`; with `evolution.mode: "
        "steady_state`, confirmed evaluations in a row, of whichever members.",
    )
    confirm_episodes: int = Field(
        default=100,
        ge=1,
        description="Fresh episodes by which a target that was reached is confirmed, and the best fitness that a run "
        "reports is measured.",
    )
    seed: Annotated[int, OnResume.FIXED] = Field(
        default=0,
        ge=0,
        lt=1 << 63,
        description="Seed of everything random: environments, exploration, batches, evolution, initial weights.",
    )
    init_from: Annotated[str | None, OnResume.FIXED] = Field(
        default=None,
        description="Directory of a run whose best policy the first members begin as; with `:ID` behind it, as that "
        "living member of it. Weights are taken where names and shapes agree; what is not is told. null: random "
        "weights.",
    )
    deterministic: Annotated[bool, OnResume.FIXED] = Field(
        default=False,
        description="Whether two runs with the same machine and versions give the same numbers, bit for bit. Such a "
        "run has one actor and is slower.",
    )


class TLS(Section):
    """Certificates: the learner's own, and whether clients must have one. Files that change are read again."""

    certificate: str = Field(
        min_length=1,
        description="PEM file of the learner's certificate, followed by those that lead from it to its CA.",
    )
    key: str = Field(
        min_length=1, description="PEM file of the certificate's private key, which only its owner may read."
    )
    client_ca: str | None = Field(
        default=None,
        description="PEM file of the CA whose certificates clients must show. null: clients need no certificate.",
    )


class Learner(Section):
    """The learner process: where it listens, whom it lets in, and how it computes updates."""

    bind: str = Field(
        default="127.0.0.1:0",
        description="HOST:PORT at which the learner listens; port 0: any free one. An address that other machines "
        "reach needs `tls` and `tokens`.",
    )
    tls: TLS | None = Field(
        default=None,
        description="Certificate and key with which connections are encrypted. null: no encryption. `covey learner "
        "--tls DIR` sets it to the files that `covey certs init` made.",
    )
    tokens: str | None = Field(
        default=None,
        description="File with a line `role token` for each client (docs/security.md). null: the tokens of the "
        "environment variable `COVEY_TOKENS`; where that is not set, whoever reaches the learner may do everything.",
    )
    device: str = Field(default="cpu", description="Device of the updates: `cpu`, `cuda`, `cuda:1` ...")
    torch_threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads of one update, at most the learner's CPU cores. null: chosen while the run goes on, "
        "from the cores that actors of this machine leave idle during updates and from the seconds that updates take; "
        "the log tells each change. It begins with 1, is at most torch's own choice (which `OMP_NUM_THREADS` bounds), "
        "and stays 1 with `training.deterministic`.",
    )
    updates: Updates = Field(
        default="auto",
        description="How the operations of an update are run. `eager`: as they are written; the reference, on every "
        "device and with every torch. `recorded`: from a list of operations with memory of its own, about twice as "
        "fast for small networks on a CPU, equal to `eager` bit for bit. `graph`: as CUDA graphs; needs CUDA. "
        "`compiled`: gradients through `torch.compile`, with layers and batches padded to multiples of 32, so that few "
        "mutations compile anew; needs a C++ compiler on a CPU or Triton on a GPU (without it the log warns, and "
        "updates are as with `auto`), and about a minute for each shape. "
        "`auto`: `recorded` on a CPU, `graph` on CUDA but with `training.deterministic`, else `eager`. While a run "
        "goes on, the others are compared with `eager` now and then; where they differ, the log says so and updates go "
        "on eagerly. `graph` and `compiled` differ by rounding. The older key `compile: true` means "
        "`updates: compiled`.",
    )
    max_memory_bytes: int = Field(
        default=12 << 30,
        ge=1 << 20,
        description="Bytes that all members' networks, with their moments, targets and packs, and a full replay memory "
        "or a round of each member may take together. The spaces of the first actor decide how much it is; one that "
        "asks for more is refused before any memory is taken.",
    )
    heartbeat_interval_s: float = Field(
        default=5.0,
        gt=0,
        description="Seconds between two heartbeats of an actor. One that is silent for nearly two intervals counts as "
        "lost, and its steps go to others.",
    )
    max_updates_owed: int = Field(
        default=64,
        ge=1,
        description="Most updates that may be due for a member while it collects; with more, it waits until some have "
        "been made.",
    )

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


FRAGMENT_STEPS = 32
"""Env steps of one environment in an order, where `actors.fragment_steps` is not set and env steps are not cheap."""


class Actors(Section):
    """The actor processes, which step environments: how many there are, and how they work."""

    local: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Actor processes that `covey train` starts. null: two at first (one on a single core), and then "
        "one more or less where the learner's or the actors' waits ask for it, at most as many as this machine has "
        "cores; the log tells each change. Always 1 with `training.deterministic`.",
    )
    vectorisation: Literal["sync", "async"] = Field(
        default="sync",
        description="How an actor steps its environments. `sync`: one after the other; `async`: each in a process of "
        "its own, for environments that are slow.",
    )
    max_slots: int | None = Field(
        default=None,
        ge=1,
        description="Environments that one actor process trains in. null: `environment.num_envs` or "
        "`training.pop_size`, whichever is larger. An actor has fewer where the rows of more do not fit into a "
        "fragment.",
    )
    fragment_steps: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Most env steps of one environment in one order of the learner. null: 32, and up to 256 for actors "
        "whose env steps are so cheap that an order of 32 takes a few milliseconds; the log tells each change. With "
        "`training.deterministic` it stays 32.",
    )
    turn_steps: int = Field(
        default=500,
        ge=1,
        description="Env steps after which an environment passes to another member, at the end of an episode, where "
        "there are fewer environments than members.",
    )
    step_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds that a step or reset of all environments of an actor may take, building them included. "
        "Environments that take longer count as hung and are replaced.",
    )
    compression_level: int = Field(
        default=1,
        ge=1,
        le=MAX_COMPRESSION_LEVEL,
        description="zstd level of what actors send: 1 is the fastest, 19 the smallest.",
    )


class Checkpoint(Section):
    """What a run keeps on disk to be resumed from: checkpoints, and a journal of the data that came in since."""

    keep: int = Field(default=2, ge=1, description="Newest checkpoints that stay on disk.")
    every_s: float = Field(
        default=300.0, gt=0, description="Seconds between checkpoints, besides the one at the end of each generation."
    )
    keep_elites: int = Field(
        default=20,
        ge=2,
        description="Most generations whose fittest policies are kept, in `elites/` of the run's directory: the first, "
        "the newest, and others at equal distances in between.",
    )
    journal_segment_bytes: int = Field(
        default=32 << 20, ge=1 << 16, description="Bytes after which the journal goes on in a new file."
    )
    journal_sync_s: float | None = Field(
        default=0.5,
        ge=0,
        description="Longest time in seconds until data that came in is safe from a crash of the machine; 0: it is "
        "made safe at once. null: whenever `journal_sync_bytes` says.",
    )
    journal_sync_bytes: int | None = Field(
        default=8 << 20,
        ge=1,
        description="Bytes that came in after which they are made safe from a crash of the machine, before "
        "`journal_sync_s` is over. null: however many there are.",
    )
    durability: Literal["journal", "received"] = Field(
        default="journal",
        description="How long actors keep data that they sent. `journal`: until it is safe in the learner's journal; "
        "`received`: until the learner has it, so that a crash of its machine may lose some.",
    )


class Logging(Section):
    """Where the metrics of a run are written, and how often."""

    tensorboard: bool = Field(
        default=True, description="Whether metrics are written for TensorBoard, to `tensorboard/` in the run directory."
    )
    csv: bool = Field(default=True, description="Whether metrics are written to `metrics.csv` in the run directory.")
    wandb: bool = Field(default=False, description="Whether metrics also go to Weights & Biases, if it is installed.")
    mlflow: bool = Field(
        default=False,
        description="Whether metrics also go to MLflow, if it is installed; `MLFLOW_TRACKING_URI` says where that is.",
    )
    trackio: bool = Field(default=False, description="Whether metrics also go to trackio, if it is installed.")
    project: str | None = Field(
        default=None,
        description="Project of these services that the run belongs to; MLflow calls it an experiment. null: what the "
        "environment variable `WANDB_PROJECT` names, else `covey`.",
    )
    entity: str | None = Field(default=None, description="User or team of Weights & Biases. null: the user's default.")
    group: str | None = Field(default=None, description="Group of runs within the project. null: the run's `name`.")
    tags: list[str] = Field(default=[], description="Tags of the run there, besides its algorithm and environment.")
    interval_s: float = Field(default=2.0, gt=0, description="Seconds between two rows of metrics.")
