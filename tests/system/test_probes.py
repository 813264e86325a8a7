"""Learning, proved where values and best policies are known: `covey train`, then what its members think and do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import probes
from tests.probes import Numbers, closeness
from tests.system.learned import Learned
from tests.system.processes import covey_json, write_config

from covey.config import load_config
from covey.envs import load_environment, read_spaces
from covey_server.algorithms import build_networks
from covey_server.member import Member

GAMMA = 0.5
VALUE_TOLERANCE = 0.1
ACTION_TOLERANCE = 0.1
"""Of a Box, the share of its range; of a choice, how likely another one may be when the policy is sampled."""

Known = Callable[[tuple[float, ...], tuple[float, ...]], tuple[float, ...]]
Wanted = Callable[[tuple[float, ...]], tuple[float | None, ...]]


@dataclass(frozen=True)
class Probe:
    """A function of `tests.probes` and what is known about it.

    Attributes:
        function: Its name.
        seen: What all agents may see, in the environment's order; as a function of `discrete`.
        values: From what is seen and done by all to each agent's value, of `discrete`.
        wanted: From what is seen by all to what each agent should do; None: no matter.
        config: Further arguments of the function.
        steps: Env steps of each member.
        box_tolerance: Of values where actions are Box: critics see the ends of the range seldom, and must bend.
        shared: Whether agents of a group share parameters.
        agents: In the environment's order.
    """

    function: str
    seen: Callable[[bool], Sequence[tuple[float, ...]]]
    values: Callable[[bool], Known]
    wanted: Callable[[bool], Wanted] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    steps: int = 250
    box_tolerance: float = VALUE_TOLERANCE
    shared: bool = False
    agents: tuple[str, ...] = probes.AGENTS


@dataclass(frozen=True)
class Case:
    """A probe with an algorithm and a kind of action."""

    probe: Probe
    algorithm: str
    discrete: bool

    def __str__(self) -> str:
        end = "".join(f"-{k}" for k, v in self.probe.config.items() if v)
        return f"{self.probe.function}{end}-{self.algorithm}-{'Discrete' if self.discrete else 'Box'}"


def nothing(discrete: bool) -> list[tuple[float, ...]]:
    return [(0.0, 0.0)]


def coins(discrete: bool) -> list[tuple[float, ...]]:
    return list(product((0.0, 1.0), repeat=2))


def anything(discrete: bool) -> list[tuple[float, ...]]:
    return coins(True) if discrete else list(product((0.1, 0.5, 0.9), repeat=2))


def fixed(discrete: bool) -> tuple[float, float]:
    return (1.0, 0.0) if discrete else (0.7, 0.3)


def scaled(discrete: bool, seen: float) -> float:
    return seen if discrete else 0.25 + 0.5 * seen


def corners(table: tuple[float, float, float, float], a: float, b: float) -> float:
    return float(np.array([1 - a, a]) @ np.reshape(table, (2, 2)) @ np.array([1 - b, b]))


def mixed_wanted(discrete: bool) -> Wanted:
    return lambda s: (scaled(discrete, s[0]), scaled(not discrete, s[1]))


PROBES = (
    Probe("constant_reward", nothing, lambda d: lambda s, a: (1.0, -0.5)),
    Probe("observed_reward", coins, lambda d: lambda s, a: (2 * s[0] - 1, 1 - 2 * s[1])),
    Probe(
        "discounted_reward",
        lambda d: [(0.0, 0.0), (1.0, 1.0)],
        lambda d: lambda s, a: (1.0, -0.5) if s[0] else (GAMMA * 1.0, GAMMA * -0.5),
    ),
    Probe(
        "fixed_policy",
        nothing,
        lambda d: lambda s, a: (closeness(a[0], fixed(d)[0]), closeness(a[1], fixed(d)[1])),
        lambda d: lambda s: fixed(d),
        steps=600,
    ),
    Probe(
        "observed_policy",
        anything,
        lambda d: lambda s, a: (closeness(a[0], s[0]), closeness(a[1], 1 - s[1])),
        lambda d: lambda s: (s[0], 1 - s[1]),
        box_tolerance=0.2,
        steps=600,
    ),
    Probe(
        "joint_policy",
        nothing,
        lambda d: lambda s, a: (corners((3, 0, 1, 2), *a), corners((1, 3, 0, 2), *a)),
        lambda d: lambda s: (1.0, 1.0),
        box_tolerance=0.4,
        steps=600,
    ),
    Probe(
        "episode_end",
        coins,
        # Seen 0, 1, 0, 1 ...: 1 + gamma^2 + gamma^4 ..., and gamma times that from 1 on.
        lambda d: lambda s, a: (1 / (1 - GAMMA), (GAMMA if s[1] else 1) / (1 - GAMMA**2)),
        config={"truncated": True},
    ),
    Probe("episode_end", coins, lambda d: lambda s, a: (1.0, 1 - s[1]), config={"truncated": False}),
    Probe(
        "team",
        coins,
        lambda d: lambda s, a: (closeness(a[0], scaled(d, s[0])), closeness(a[1], scaled(d, s[1])) - 1),
        lambda d: lambda s: (scaled(d, s[0]), scaled(d, s[1])),
        box_tolerance=0.2,
        steps=600,
        shared=True,
        agents=("team_0", "team_1"),
    ),
    Probe(
        "mixed_kinds",
        coins,
        lambda d: lambda s, a: tuple(closeness(x, w or 0.0) for x, w in zip(a, mixed_wanted(d)(s), strict=True)),
        mixed_wanted,
        box_tolerance=0.15,
        steps=600,
    ),
    Probe(
        "early_death",
        nothing,
        lambda d: lambda s, a: (1 / (1 - GAMMA), closeness(a[1], 1.0)),
        lambda d: lambda s: (None, 1.0),
        steps=500,
    ),
)

# Each probe with both kinds of action and with both algorithms, in turns.
CASES = [
    Case(probe, algorithm, discrete)
    for i, probe in enumerate(PROBES)
    for algorithm, discrete in zip(("MADDPG", "MATD3"), (i % 2 == 0, i % 2 == 1), strict=True)
]


def configure(path: Path, case: Case) -> Path:
    """A short run of two members without evolution, half of it played at random."""
    steps = case.probe.steps
    return write_config(
        path,
        algorithm={
            "name": case.algorithm,
            "learn_step": 1,
            "batch_size": 64,
            # Far slower than the critics: a policy that follows guesses is saturated before the critic knows better.
            "lr_actor": 0.0015,
            "lr_critic": 0.01,
            "gamma": GAMMA,
            "tau": 0.2,
            "policy_freq": 2,
            "O_U_noise": False,
            "expl_noise": 0.5,
            "share_parameters": case.probe.shared,
        },
        environment={
            "name": f"tests.probes:{case.probe.function}",
            "num_envs": 4,
            "config": {"discrete": case.discrete, **case.probe.config},
        },
        # Smooth units: values of Box actions are parabolas, of which a few kinks make a poor likeness.
        network={
            "latent_dim": 16,
            "encoder_config": {"hidden_size": [16], "activation": "Tanh"},
            "head_config": {"hidden_size": [32], "activation": "Tanh"},
        },
        mutation={"probabilities": {"no_mut": 1, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}},
        training={"max_steps": steps, "evo_steps": steps, "pop_size": 2, "random_steps": steps, "confirm_episodes": 4},
    )


def value_errors(learned: Learned, case: Case) -> list[float]:
    """Of every critic, for all that may be seen and done."""
    places = [(0.0, 1.0) if learned.chooses(a) else (0.0, 0.5, 1.0) for a in case.probe.agents]
    known = case.probe.values(case.discrete)
    errors = []
    for seen, done in product(case.probe.seen(case.discrete), product(*places)):
        for agent, expected in zip(case.probe.agents, known(seen, done), strict=True):
            values = learned.values(agent, named(case, seen), named(case, done))
            errors += [abs(value - expected) for value in values]
    return errors


def value_tolerance(learned: Learned, case: Case) -> float:
    return VALUE_TOLERANCE if all(learned.chooses(a) for a in case.probe.agents) else case.probe.box_tolerance


def action_errors(learned: Learned, case: Case) -> list[float]:
    """Of every policy: how far off it is (Box), or how likely it chooses something else (Discrete)."""
    assert case.probe.wanted is not None
    wanted = case.probe.wanted(case.discrete)
    errors = []
    for seen in case.probe.seen(case.discrete):
        done = learned.does(named(case, seen))
        for agent, own, expected in zip(case.probe.agents, seen, wanted(seen), strict=True):
            if expected is None:
                continue
            error = abs(done[agent] - expected)
            if learned.chooses(agent):
                error = max(error, 1 - learned.odds(agent, own, expected))
            errors.append(error)
    return errors


def named(case: Case, numbers: tuple[float, ...]) -> Numbers:
    return dict(zip(case.probe.agents, numbers, strict=True))


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Path]]]:
    """The runs of all cases that are asked for, two at a time."""

    def train(case: Case) -> Path:
        folder = tmp_path_factory.mktemp("probe")
        result = covey_json("train", configure(folder / f"{case}.yaml", case), "--runs", folder, "--json")
        assert result["env_steps"] == 2 * case.probe.steps
        return Path(str(result["run_dir"]))

    asked = {item.name for item in request.session.items}
    with ThreadPoolExecutor(2) as pool:
        yield {str(c): pool.submit(train, c) for c in CASES if f"test_training_finds_what_is_known[{c}]" in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_training_finds_what_is_known(runs: dict[str, Future[Path]], case: Case) -> None:
    members = Learned.everybody(runs[str(case)].result())
    assert len(members) == 2
    for learned in members:
        assert max(value_errors(learned, case)) < value_tolerance(learned, case)
        if case.probe.wanted is not None:
            assert max(action_errors(learned, case)) < ACTION_TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_untrained_networks_do_not_pass(tmp_path: Path, case: Case) -> None:
    config = load_config(configure(tmp_path / "untrained.yaml", case))
    spaces = read_spaces(load_environment(config.environment.name, config.environment.config)())
    for seed in range(5):
        networks = build_networks(config, spaces, np.random.default_rng(seed))
        member = Member(member_id=0, networks=networks, hyperparameters={})
        learned = Learned.of(member, spaces, case.probe.shared)
        assert max(value_errors(learned, case)) > 1.5 * value_tolerance(learned, case)
        if case.probe.wanted is not None:
            assert max(action_errors(learned, case)) > 1.5 * ACTION_TOLERANCE
