"""Write docs/configuration.md from the models in covey.config: `python -m benchmarks.pages.configuration [--check]`.

With --check nothing is written; the exit status is 1 if the page is not what the models give.
"""

import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from covey.config import config

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

HEAD = """# Configuration

One YAML file configures a run. Its sections and keys are those of AgileRL's manifests, plus ours; an unknown key is an
error that names the nearest valid one. A key without a value is as if it were not there, unless `null` is a value of
its own. On the command line `--set section.key=value` (the value is YAML) overrides a key, as often as needed.

Units end a name: `_s` seconds, `_bytes` bytes, `_steps` **env steps** (one `step()` of one environment, whatever the
number of its agents). `max_steps`, `evo_steps` and `learn_step` count per member, `learning_delay`, `random_steps` and
the size of the replay memory over the whole population. Noise scales are in units of the action range mapped to
[-1, 1]. A key without a default must be given.

This page is written by `make docs`; the jobs in `examples/` show whole files.
"""

MANIFESTS = """
## Manifests of AgileRL

Multi-agent manifests train as they are: `covey train maddpg.yaml`. Both of their forms are understood, the one with
these sections and the older one with `INIT_HP`, `MUTATION_PARAMS` and `NET_CONFIG`; `--set` names keys of this page
with either. Keys that a manifest leaves out have the defaults of this page.

- Another name for a key here: `replay_buffer.memory_size`, `training.population_size`, `training.metrics_interval`,
  `environment.env_config`, `environment.entrypoint` (then `name` is a label), `environment.sync`.
- `mutation.rand_seed` is `training.seed` where that is not given. `training.sum_scores: false` is
  `fitness.reduce: mean`; scores of each agent are reported with either. `pettingzoo.mpe.*` is `mpe2.*`.
- A key that has no meaning here is named in a warning that says what happens instead: `multi_frequency` selection
  becomes a tournament, convolutions become an MLP over flattened images, all the kinds of parameter mutation are one.
- A value under which it would be another experiment is an error: `simba: true`, `squash_output: true`,
  `recurrent: true`, wrappers, prioritised or multi-step replay, `hpo: false`.
"""

OFF_POLICY, ON_POLICY = "algorithm: MADDPG, MATD3", "algorithm: IPPO"
"""A section with several tables: one for each kind of it, "section: names"."""

EVOLVING = (config.OffPolicyAlgorithm(name="MATD3"), config.OnPolicyAlgorithm(name="IPPO"))

NESTED: dict[str, type[BaseModel]] = {
    "mutation.probabilities": config.Probabilities,
    "mutation.rl_hp_selection.NAME": config.RLParameter,
    "network": config.NetConfig,
    "learner.tls": config.TLS,
    "network.encoder_config, network.head_config": config.MLPConfig,
}

NOTES = {
    "": "Top level.",
    OFF_POLICY: "Off-policy actor-critic with joint critics; MATD3 adds twin critics, delayed policy updates and "
    "target smoothing. Actions are Box or Discrete.",
    ON_POLICY: "On-policy, a policy and a value network for each agent or group; no critic sees what others see. "
    "Actions are Box, Discrete, MultiDiscrete or MultiBinary.",
    "mutation.rl_hp_selection.NAME": "NAME is one of "
    + "; ".join(f"{', '.join(f'`{n}`' for n in a.evolvable)} with {a.name}" for a in EVOLVING)
    + ".",
    "network": (
        "Either these keys, for all agents, or one such block for each agent id or group id; "
        "an agent that is not named gets the defaults."
    ),
}

MEANINGS: dict[str, dict[str, str]] = {
    "": {
        "name": "Run directories are `runs/NAME-TIMESTAMP`. A file that does not say has its own name.",
    },
    OFF_POLICY: {
        "name": "Which of the two.",
        "lr_actor": "Learning rate of the policies (Adam).",
        "lr_critic": "Learning rate of the critics (Adam).",
        "batch_size": "Env steps in the batch of one update.",
        "learn_step": "A member owes one update for this many env steps of its own.",
        "gamma": "Discount of a reward per env step.",
        "tau": "Share of the new weights in a soft update of the target networks.",
        "policy_freq": "MATD3: critic updates for each policy update.",
        "O_U_noise": "Exploration by an Ornstein-Uhlenbeck process; false: by Gaussian noise.",
        "expl_noise": "Standard deviation (Gaussian) or volatility (Ornstein-Uhlenbeck) for Box actions, probability "
        "of a uniform action for Discrete ones.",
        "expl_noise_final": "Scale reached linearly at `max_steps`; null: `expl_noise` throughout.",
        "mean_noise": "Mean of the noise.",
        "theta": "Ornstein-Uhlenbeck: pull towards the mean.",
        "dt": "Ornstein-Uhlenbeck: length of a time step.",
        "actor_loss": "`joint`: the current actions of all agents go into the critic when a policy is updated; "
        "`own`: those of the other agents come from the batch.",
        "target_noise": "MATD3: standard deviation of the noise on target actions.",
        "target_noise_clip": "MATD3: bound of that noise.",
        "output_penalty": "Weight of the mean square of a policy's outputs (before squashing) in its loss; 0: none, as "
        "published. With Discrete actions, or high learning rates, policies saturate without it: try 0.001 to 0.01.",
        "max_grad_norm_actor": "Gradients of a policy are scaled down to this norm; null: never.",
        "max_grad_norm_critic": "The same for a critic.",
        "share_parameters": "One policy and critic for each group of agents instead of one for each agent.",
        "agent_indicator": "Policies that agents share also read which of the group they play, as a one-hot vector.",
    },
    ON_POLICY: {
        "name": "The algorithm.",
        "lr": "Learning rate of policies and value networks (Adam).",
        "batch_size": "Decisions in a minibatch, over all agents that share the network.",
        "learn_step": "Env steps of a rollout, all with one policy; a member is updated after each.",
        "gamma": "Discount of a reward per env step.",
        "gae_lambda": "Weight of longer returns in the generalised advantage estimate.",
        "clip_coef": "How far a probability ratio, and a value, may move from the old one before it is clipped.",
        "ent_coef": "Weight of the policy's entropy in the loss.",
        "vf_coef": "Weight of the value loss.",
        "max_grad_norm": "Gradients of a network are scaled down to this norm; null: never.",
        "target_kl": "The passes over a rollout end early where the policy has moved further than this; null: never.",
        "update_epochs": "Passes over a rollout.",
        "action_std_init": "Logarithm of the standard deviation that Box actions begin with, in units of the action "
        "range mapped to [-1, 1].",
        "output_gain": "Factor on the initial weights of a policy's last layer; small: nearly uniform at the start.",
        "normalize_values": "Value networks predict returns in units of their running mean and deviation.",
        "share_parameters": "One policy and value network for each group of agents instead of one for each agent.",
        "agent_indicator": "Networks that agents share also read which of the group they play, as a one-hot vector.",
    },
    "environment": {
        "name": "A module with `parallel_env()`, such as `mpe2.simple_spread_v3`, or `package.module:function`.",
        "num_envs": "Environments that train in one actor process; an evaluation plays `eval_loop` times as many "
        "episodes.",
        "config": "Keyword arguments of the function.",
        "groups": "Group id to agent ids, every agent once; null: agents with the same name before the last `_` and "
        "equal spaces are a group.",
        "spaces_from": "`actor`: the first actor says what the spaces are, the learner needs no environment; `local`: "
        "the learner builds the environment once.",
    },
    "network": {
        "latent_dim": "Outputs of each encoder.",
        "min_latent_dim": "Mutations stay at or above it.",
        "max_latent_dim": "Mutations stay at or below it.",
        "encoder_config": "What an observation goes through first.",
        "head_config": "What the latent space goes through to actions or values.",
    },
    "network.encoder_config, network.head_config": {
        "hidden_size": "Units of each hidden layer; `[]`: none.",
        "activation": "Of the hidden layers and of the latent space.",
        "layer_norm": "Normalise each hidden layer. Mutations that add units then change the outputs.",
        "min_hidden_layers": "Mutations stay at or above it.",
        "max_hidden_layers": "Mutations stay at or below it.",
        "min_mlp_nodes": "Mutations stay at or above it.",
        "max_mlp_nodes": "Mutations stay at or below it.",
    },
    "mutation": {
        "probabilities": "Which kind of mutation a child gets.",
        "rl_hp_selection": "Hyperparameters that may mutate, with their ranges; empty: default ranges.",
        "mutation_sd": "Standard deviation of the noise of a parameter mutation, relative to the weight.",
        "activation_selection": "What an activation mutation draws from.",
        "mutate_elite": "Whether the best member, which selection keeps, is mutated too.",
        "pre_training": "Mutate every member once before the first generation.",
    },
    "mutation.probabilities": {
        "no_mut": "Weight of no mutation.",
        "arch_mut": "Weight of an architecture mutation: units or layers more or less.",
        "new_layer": "Share of layers, as against units, among architecture mutations.",
        "params_mut": "Weight of noise on a share of a policy's weights.",
        "act_mut": "Weight of another activation.",
        "rl_hp_mut": "Weight of a change of one hyperparameter.",
    },
    "mutation.rl_hp_selection.NAME": {
        "min": "Smallest value.",
        "max": "Largest value.",
        "grow_factor": "A growing value is multiplied by it.",
        "shrink_factor": "A shrinking value is multiplied by it.",
        "dtype": "null: int where the hyperparameter is one.",
    },
    "selection_strategy": {
        "strategy": "Each child's parent is the best of some members drawn at random.",
        "tournament_size": "How many are drawn; in `steady_state` the member itself is one of them.",
        "elitism": "The best member lives on.",
    },
    "evolution": {
        "mode": "`generational`: members are compared when all have made their `evo_steps` and been evaluated; "
        "`steady_state`: each as soon as it is ready, by a tournament of its own, while the others go on.",
    },
    "replay_buffer": {
        "max_size": "Env steps that the population's shared memory holds.",
        "max_bytes": "Memory it may take at most.",
    },
    "fitness": {
        "agents": "Agents whose returns count; null: all that the member plays itself.",
        "reduce": "How the agents' returns of an episode become one number.",
        "opponents": "Agent id to who plays it while members are evaluated: `random`, or the id of a member of the "
        "first generation, with its newest policy; when it has died, the best member of the generation before, where "
        "selection kept it. Training is not touched.",
    },
    "training": {
        "max_steps": "Env steps of each member, along its line of parents; the run ends there.",
        "evo_steps": "Env steps of each member between two evaluations and selections.",
        "pop_size": "Members.",
        "eval_steps": f"Env steps after which an evaluation episode is cut off; null: {config.EVAL_STEPS_CAP:,}.",
        "eval_loop": "An evaluation plays `eval_loop` x `num_envs` episodes.",
        "learning_delay": "Env steps in replay before the first update.",
        "random_steps": "The population's first env steps are played at random.",
        "target_score": "The run ends early when the best member's fitness, confirmed, reaches it; null: never.",
        "target_patience": "Generations in a row whose best member must reach it; in `steady_state`, confirmed "
        "evaluations of any members in a row.",
        "confirm_episodes": "Fresh episodes behind a reported best fitness and a reached target.",
        "seed": "Of everything random: environments, exploration, sampling, evolution, initial weights.",
        "deterministic": "Two runs of the same machine and versions are equal bit for bit; one actor, slower.",
    },
    "learner": {
        "bind": "HOST:PORT to listen at; port 0: any free one. Addresses that other machines reach need `tls` and "
        "`tokens`.",
        "tls": "Encrypt, see below; null: do not. `covey learner --tls DIR` sets it to what `covey certs init` made.",
        "tokens": "File with a line `role token` for each client, see [security.md](security.md); null: those of the "
        "environment variable `COVEY_TOKENS`, and without them everybody who reaches the learner may do everything.",
        "device": "Where updates run: `cpu`, `cuda`, `cuda:1` ...",
        "torch_threads": "Threads of one update on a CPU; null: the cores that the actors of `covey train` and the "
        "wire leave, at most torch's own choice, which `OMP_NUM_THREADS` bounds; 1 where `training.deterministic` is "
        "set.",
        "updates": "How the operations of an update are run. `eager`: as they are written; the reference, on every "
        "device and with every torch. `recorded`: from a list of operations with memory of its own, about twice as "
        "fast for small networks on a CPU, equal to `eager` bit for bit. `graph`: as CUDA graphs; needs CUDA. "
        "`compiled`: gradients through `torch.compile`, with layers and batches padded to multiples of 32, so that few "
        "mutations compile anew; needs a C++ compiler on a CPU or Triton on a GPU, and about a minute for each shape. "
        "`auto`: `recorded` on a CPU, `graph` on CUDA, else `eager`. While a run goes on, the others are compared with "
        "`eager` now and then; where they differ, the log says so and updates go on eagerly. `graph` and `compiled` "
        "differ by rounding. The older key `compile: true` means `updates: compiled`.",
        "heartbeat_interval_s": "An actor silent for two intervals is lost, and its steps go to others.",
        "max_updates_owed": "A member that owes more updates collects no further steps until it has made some.",
    },
    "learner.tls": {
        "certificate": "File of the learner's certificate and what leads to its CA, PEM.",
        "key": "File of its private key, PEM, readable by its owner alone.",
        "client_ca": "File of the CA whose certificates clients must show; null: they need none.",
    },
    "actors": {
        "local": "Actor processes that `covey train` starts; 1 where `training.deterministic` is set.",
        "vectorisation": "`sync`: an actor steps its environments one after the other; `async`: in processes of their "
        "own, for environments that are slow.",
        "max_slots": "Training environments of one actor process; null: the larger of `num_envs` and `pop_size`.",
        "fragment_steps": "Longest stretch of one environment in one order.",
        "step_timeout_s": "Longest that a step or reset of all environments of an actor may take, building them "
        "included; what takes longer hangs, and is replaced.",
        "turn_steps": "Where there are fewer environments than members, one changes hands after this many.",
        "compression_level": "zstd level of what actors send.",
    },
    "checkpoint": {
        "keep": "Checkpoints that stay on disk.",
        "every_s": "Time between checkpoints, besides the one at the end of every generation.",
        "journal_segment_bytes": "Size at which a new journal file is begun.",
        "journal_sync_s": "Longest time until received data is safe from a crash of the machine; 0: at once.",
        "journal_sync_bytes": "Received data is made safe sooner when there is so much of it.",
        "durability": "Actors keep fragments until they are in the synced journal, or until they are received.",
    },
    "logging": {
        "tensorboard": "Write `tensorboard/` in the run directory.",
        "csv": "Write `metrics.csv` in the run directory.",
        "wandb": "Metrics also go to Weights & Biases (project `covey`, or `WANDB_PROJECT`), where it is installed.",
        "interval_s": "Time between two rows of metrics.",
    },
}


def page() -> str:
    """The whole page."""
    sections: dict[str, type[BaseModel]] = {"": config.Config}
    for name, field in config.Config.model_fields.items():
        for kind in get_args(field.annotation) or (field.annotation,):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                names = get_args(kind.model_fields["name"].annotation) if kind is not field.annotation else ()
                sections[f"{name}: {', '.join(names)}" if names else name] = kind
    for path, model in NESTED.items():
        # Below the section they belong to; `network` is a free mapping in the model and comes after the environment.
        sections = _inserted(sections, path, model)
    if set(sections) != set(MEANINGS):
        sys.exit(f"configuration page: MEANINGS does not fit the models: {set(sections) ^ set(MEANINGS)}")
    return HEAD + "".join(section(path, model) for path, model in sections.items()) + MANIFESTS


def _inserted(sections: dict[str, type[BaseModel]], path: str, model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    after = "environment" if path == "network" else path.split(".")[0]
    items = list(sections.items())
    position = max(i for i, (name, _) in enumerate(items) if name.split(".")[0] == after) + 1
    return dict([*items[:position], (path, model), *items[position:]])


def section(path: str, model: type[BaseModel]) -> str:
    """Heading, note and table of one section."""
    meanings = MEANINGS[path]
    skipped = {name.partition(":")[0] for name in MEANINGS} if path == "" else set()
    fields = {name: field for name, field in model.model_fields.items() if name not in skipped}
    if set(fields) != set(meanings):
        sys.exit(f"configuration page: MEANINGS[{path!r}] does not fit the model: {set(fields) ^ set(meanings)}")
    name, colon, kinds = path.partition(": ")
    title = f"`{name}` of {kinds}" if colon else ", ".join(f"`{p}`" for p in path.split(", ")) if path else "The file"
    alias = config.Config.model_fields[path].alias if path in config.Config.model_fields else None
    if alias:
        title += f" (also `{alias}`)"
    note = f"\n{NOTES[path]}\n" if path in NOTES else ""
    rows = [f"| {key(n, f)} | {default(f)} | {expected(f)} | {meanings[n]} |" for n, f in fields.items()]
    return f"\n## {title}\n{note}\n| key | default | expected | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def key(name: str, field: FieldInfo) -> str:
    """The key, and its other name where it has one."""
    return f"`{name}`" + (f" (also `{field.alias}`)" if field.alias else "")


def default(field: FieldInfo) -> str:
    """The default as YAML would write it."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool) or value is None:
        return f"`{ {True: 'true', False: 'false', None: 'null'}[value] }`".replace(" ", "")
    if value == {}:
        return "`{}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def expected(field: FieldInfo) -> str:
    """Type and bounds in words."""
    text = _type(field.annotation)
    signs = {annotated_types.Ge: "ge", annotated_types.Gt: "gt", annotated_types.Le: "le", annotated_types.Lt: "lt"}
    words = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{words[a]} {_number(getattr(m, a))}" for m in field.metadata for t, a in signs.items() if isinstance(m, t)
    ]
    lengths = [f"at least {m.min_length} long" for m in field.metadata if isinstance(m, annotated_types.MinLen)]
    lengths += [f"at most {m.max_length} long" for m in field.metadata if isinstance(m, annotated_types.MaxLen)]
    return ", ".join([text, *bounds, *lengths])


def _number(value: float) -> str:
    """Large powers of two, as sizes and seeds have them, as powers."""
    power = int(value).bit_length() - 1
    return f"2^{power}" if power >= 16 and value == 1 << power else str(value)


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if a is types.NoneType else _type(a) for a in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "mapping"
    return {bool: "true or false", int: "integer", float: "number", str: "text"}[annotation]


def main() -> None:
    """Write or compare."""
    fresh = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(fresh)
    elif not PAGE.exists() or PAGE.read_text() != fresh:
        sys.exit("docs/configuration.md is stale; run `make docs`")


if __name__ == "__main__":
    main()
