"""What comes as text or as a file that may be anybody's: policies, spaces, configurations, addresses, exports."""

from __future__ import annotations

import functools
import itertools
import json
from random import Random
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save
from tests.fuzz.mutate import INTEGERS, TEXTS, hostile_json, spoil_bytes, spoil_json
from tests.fuzz.spaces import ENVIRONMENTS, check_space, check_spaces
from tests.fuzz.target import Target, scratch

from covey.config import load_config, parse_config
from covey.errors import ConfigError, DivergedError, RefusedError, SpaceError
from covey.networks import MLP, Input, NetworkSpec, NumpyOps, Params, Recurrent
from covey.networks.network import MAX_PARAMETERS
from covey.spaces import AgentSpec, Box
from covey.wire.channel import parse_address
from covey.wire.policy_file import PolicySpec, decode_policy, encode_policy
from covey.wire.spaces_json import space_from_json, space_to_json, spaces_from_json, spaces_to_json

AGENTS = [agent for environment in ENVIRONMENTS for agent in environment.agents]

_SPACE_KEYS = (
    {"kind": "box", "dtype": "float32", "shape": [1 << 21], "low": [0], "high": [1]},
    {"kind": "box", "dtype": "float32", "shape": [1] * 60, "low": [0], "high": [1]},
    {"kind": "box", "dtype": "float32", "shape": [9999999999] * 999, "low": [0], "high": [1]},
    {"kind": "box", "dtype": "float32", "shape": [2], "low": ["nan"], "high": [1]},
    {"kind": "discrete", "n": 1 << 62, "start": 1 << 62},
    {"kind": "multi_discrete", "nvec": [1] * 5000},
)


def network_of(agent: AgentSpec, head: str = "deterministic") -> NetworkSpec:
    """A small policy network for an agent."""
    gaussian = head == "stochastic" and isinstance(agent.action, Box)
    encoder = MLP(hidden_size=(3, 3), layer_norm=True, activation="ELU", gated=(1,))
    return NetworkSpec(
        inputs=(Input("observation", agent.observation.width, encoder),),
        head=MLP(hidden_size=(3,)),
        outputs=agent.action.width,
        latent_dim=3,
        log_std=-0.5 if gaussian else None,
    )


@functools.cache
def policy_of(agent: int, head: str = "deterministic") -> tuple[PolicySpec, Params]:
    """An honest policy of one of AGENTS."""
    spec = PolicySpec(network_of(AGENTS[agent], head), AGENTS[agent].observation, AGENTS[agent].action, head)
    return spec, spec.network.init(np.random.default_rng(agent))


def _critic() -> dict[str, Any]:
    inputs = (Input("walker", 4, MLP(hidden_size=(5,)), copies=2), Input("speaker", 3, MLP(hidden_size=(4, 4))))
    return NetworkSpec(inputs=inputs, head=MLP(hidden_size=(6,)), outputs=1, extra=7, latent_dim=4).to_json()


def _remembering() -> dict[str, Any]:
    memory = Recurrent(encoder=MLP(hidden_size=(5,)), hidden_state_size=16)
    spec = NetworkSpec(inputs=(Input("observation", 4, memory),), head=MLP(hidden_size=(6,)), outputs=2, latent_dim=4)
    return spec.to_json()


def _reader() -> dict[str, Any]:
    inputs = (Input("observation", 4, MLP(hidden_size=(5,))),)
    return NetworkSpec(inputs=inputs, head=MLP(hidden_size=(6,)), outputs=1, reads_memory=16, latent_dim=4).to_json()


def _hostile_network(rng: Random) -> str:
    spec = rng.choice((_critic, _remembering, _reader, lambda: network_of(rng.choice(AGENTS)).to_json()))()
    if rng.random() < 0.05:
        spec["inputs"][0]["copies"] = rng.choice((2**20, 2**26))
        spec["inputs"] *= rng.choice((1, 2, 1000))
    return hostile_json(rng, spec)


def parsed(text: str) -> Any:
    """JSON as everybody who calls a decoder has it; what is no JSON never gets there."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _decode_network(hostile: str) -> None:
    spec = NetworkSpec.from_json(parsed(hostile))
    hash(spec)
    assert sum(int(np.prod(p.shape)) for p in spec.parameters) <= MAX_PARAMETERS
    names = [p.name for p in spec.parameters]
    assert len(set(names)) == len(names)
    assert NetworkSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False))) == spec
    _run(spec, spec.init(np.random.default_rng(0)) if _small(spec) else None)


def _small(spec: NetworkSpec) -> bool:
    return sum(int(np.prod(p.shape)) for p in spec.parameters) < 100_000


def _run(spec: NetworkSpec, params: Params | None) -> None:
    """What is taken can act."""
    if params is None or not _small(spec) or sum(i.copies * i.width for i in spec.inputs) + spec.extra > 100_000:
        return
    inputs = [np.zeros((2, i.copies * i.width), np.float32) for i in spec.inputs]
    extra = np.zeros((2, spec.extra), np.float32) if spec.extra else None
    memory = np.zeros((2, spec.reads_memory), np.float32) if spec.reads_memory else None
    with np.errstate(all="ignore"):
        if spec.state_size:
            outputs, state = spec.step(NumpyOps(), params, inputs[0], np.zeros((2, spec.state_size), np.float32))
            assert state.shape == (2, spec.state_size)
        else:
            outputs = spec.apply(NumpyOps(), params, inputs, extra, memory=memory)
    assert np.shape(outputs) == (2, spec.outputs)


def _hostile_policy(rng: Random) -> bytes:
    spec, params = policy_of(rng.randrange(len(AGENTS)), rng.choice(("deterministic", "stochastic")))
    data = encode_policy(spec, params)
    draw = rng.random()
    if draw < 0.2:
        return spoil_bytes(rng, data)
    if draw < 0.4:  # its header, as JSON
        size = int.from_bytes(data[:8], "little")
        header = hostile_json(rng, json.loads(data[8 : 8 + size])).encode(errors="replace")
        return len(header).to_bytes(8, "little") + header + data[8 + size :]
    if draw < 0.6:
        tensors: dict[str, Any] = dict(params)
        name = rng.choice(list(params))
        dtype = rng.choice(("float32", "float64", "float16", "int8", "bool"))
        tensors[name] = rng.choice((params[name][:-1], params[name].astype(dtype), params[name] * np.float32("nan")))
        tensors[rng.choice((*TEXTS, name))] = tensors[name]
        return bytes(save(tensors, metadata={"covey": json.dumps(spec.to_json())}))
    about = spec.to_json()
    if rng.random() < 0.2:
        about[rng.choice(("observation", "action"))] = rng.choice(_SPACE_KEYS)
    text = hostile_json(rng, about)
    return bytes(save(dict(params), metadata={"covey": text.encode(errors="replace").decode()}))


def _decode_policy(hostile: bytes) -> None:
    spec, params = decode_policy(hostile)
    check_space(spec.observation)
    check_space(spec.action)
    assert all(np.isfinite(p).all() and p.dtype == np.float32 for p in params.values())
    assert decode_policy(encode_policy(spec, params))[0] == spec
    _run(spec.network, params)


def _hostile_space(rng: Random) -> str:
    agent = rng.choice(AGENTS)
    if rng.random() < 0.1:
        return json.dumps(rng.choice(_SPACE_KEYS))
    return hostile_json(rng, space_to_json(rng.choice((agent.observation, agent.action))))


def _decode_space(hostile: str) -> None:
    space = space_from_json(parsed(hostile))
    check_space(space)
    assert space_from_json(space_to_json(space)) == space


def _hostile_spaces(rng: Random) -> str:
    data = spaces_to_json(rng.choice(ENVIRONMENTS))
    if rng.random() < 0.1:
        data["agents"][0]["observation"] = rng.choice(_SPACE_KEYS)
        data["agents"] += data["agents"][:1] * 5
    return hostile_json(rng, data)


def _decode_spaces(hostile: str) -> None:
    spaces = spaces_from_json(parsed(hostile))
    check_spaces(spaces)


CONFIGS = (
    {
        "algorithm": {"name": "MATD3", "lr_actor": 0.001, "batch_size": 64},
        "environment": {"name": "mpe2.simple_spread_v3", "num_envs": 8, "config": {"N": 3}, "groups": {"all": ["a"]}},
        "network": {"latent_dim": 32, "encoder_config": {"hidden_size": [64]}, "arch": "mlp"},
        "mutation": {"probabilities": {"no_mut": 0.4}, "rl_hp_selection": {"gamma": {"min": 0.9, "max": 0.99}}},
        "replay_buffer": {"memory_size": 1000},
        "training": {"max_steps": 1000, "target_score": None, "seed": 42},
        "learner": {"bind": "127.0.0.1:0"},
        "fitness": {"opponents": {"a": "random"}},
        "checkpoint": {"keep": 2},
    },
    {
        "INIT_HP": {
            "ALGO": "IPPO",
            "ENV_NAME": "pettingzoo.mpe.simple_v3",
            "LR": 0.001,
            "BATCH_SIZE": 64,
            "LEARN_STEP": 10,
        },
        "MUTATION_PARAMS": {"NO_MUT": 0.4, "RL_HP_SELECTION": ["lr"], "MIN_LR": 0.0001, "MAX_LR": 0.01},
        "NET_CONFIG": {"latent_dim": 16, "encoder_config": {"hidden_size": [16]}},
        "training": {"max_steps": 100},
    },
)


def _multiplied(of: str, times: int, lines: int, form: str) -> str:
    """YAML in which each line names the line before several times."""
    keys = "abcdefghijklmnop"[:lines]
    text = [f"a: &a {of}"]
    text += [f"{k}: &{k} " + form.format(*[f"*{before}"] * times) for before, k in itertools.pairwise(keys)]
    return "\n".join(text)


YAMLS = (
    *(
        "a: &a {b: *a}",
        "&a [*a]",
        "x: 2001-99-99",
        "x: !!int ''",
        "x: !!python/object/apply:os.system [ls]",
        "\t",
        "1: 2",
    ),
    *("? [1]\n: 2", "x: 0b_", "x: 1:99:99.9", "<<: {a: 1}", "<<: 3", "!!set {a, b}", "!!binary '%%'", "---\n---\n"),
    *("x: !!timestamp 1", "{" * 2000, "[" * 2000, "- " * 3000, "null: 1", "x: " + "9" * 5000, "%YAML 9.9\n--- 1"),
    *("x: !!float x", "\ufeff{}"),
    _multiplied("[1, 1, 1]", 9, 12, "[" + ", ".join(["{}"] * 9) + "]"),
    _multiplied("{x: 1}", 3, 16, "{{x: {}, y: {}, z: {}}}"),
)


def _hostile_config(rng: Random) -> tuple[str, tuple[str, ...]]:
    data = spoil_json(rng, rng.choice(CONFIGS))
    text = json.dumps(data) if rng.random() < 0.5 else yaml.safe_dump(data, sort_keys=False)
    if rng.random() < 0.15:
        text = rng.choice((rng.choice(YAMLS), text + "\n" + rng.choice(YAMLS)))
    elif rng.random() < 0.3:
        text = hostile_json(rng, rng.choice(CONFIGS)) if rng.random() < 0.5 else _spoil_yaml(rng, text)
    override = f"{rng.choice(('training.seed', 'network', 'a.b.c', 'name', *TEXTS))}={rng.choice((*TEXTS, *YAMLS))}"
    return text, (override,) if rng.random() < 0.2 else ()


def _spoil_yaml(rng: Random, text: str) -> str:
    return spoil_bytes(rng, text.encode(errors="replace")).decode(errors="replace")


def _decode_config(hostile: tuple[str, tuple[str, ...]]) -> None:
    path = scratch() / "config.yaml"
    path.write_text(hostile[0], errors="replace")
    config = load_config(path, hostile[1])
    assert parse_config(json.loads(json.dumps(config.model_dump(mode="json")))) is not None


def _hostile_address(rng: Random) -> str:
    hosts = ("127.0.0.1", "[::1]", "localhost", "[::1%eth0]", "a..b", "-", *TEXTS)
    ports = ("50051", "0", "65536", "٣", "1e3", "+1", " 1", "9" * 5000, *map(str, INTEGERS))
    text = f"{rng.choice(hosts)}{rng.choice((':', ':', '', '::'))}{rng.choice(ports)}"
    return _spoil_yaml(rng, text) if rng.random() < 0.3 else text


def _decode_address(hostile: str) -> None:
    host, port = parse_address(hostile)
    assert host and host.isascii() and host.isprintable() and 0 <= port < 65536


TEXT = (
    Target("policy file", _hostile_policy, _decode_policy, (RefusedError, ConfigError, DivergedError)),
    Target("network specification", _hostile_network, _decode_network, (ConfigError,)),
    Target("space as JSON", _hostile_space, _decode_space, (SpaceError,)),
    Target("spaces as JSON", _hostile_spaces, _decode_spaces, (SpaceError, ConfigError)),
    Target("configuration", _hostile_config, _decode_config, (ConfigError,)),
    Target("address", _hostile_address, _decode_address, (ConfigError,)),
)
