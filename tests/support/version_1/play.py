"""What an actor of protocol version 1 does with orders: environments, policies and rows, in numpy alone.

The environment is a counter like `tests.support.environments:counter`, so that the rows of both can be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray
from tests.support.version_1.messages import MESSAGES

AGENTS = ("walker_0", "caller_0", "walker_1")
GROUPS = {"walker": (0, 2), "caller": (1,)}
STEP, FINAL, TAIL = 1, 2, 4
DRAIN, POLICY_UNAVAILABLE = 1, 2

Floats = NDArray[np.float32]
Actions = list[Any]  # of each agent: a Box value or an index

COLUMNS: list[list[Any]] = [["kind", "uint8", []]]
for _group, _members in GROUPS.items():
    _n = len(_members)
    _action = ["float32", [_n, 2]] if _group == "walker" else ["int64", [_n]]
    COLUMNS += [[f"{_group}/observation", "float32", [_n, 3]], [f"{_group}/action", *_action]]
    for _name, _dtype in (("active", "uint8"), ("reward", "float32"), ("terminated", "uint8"), ("truncated", "uint8")):
        COLUMNS.append([f"{_group}/{_name}", _dtype, [_n]])
    COLUMNS.append([f"{_group}/age", "uint32", [_n]])
SCHEMA_HASH = hashlib.sha256(json.dumps(COLUMNS, separators=(",", ":")).encode()).digest()[:16]


class Counter:
    """Shows (seed, step, agent); an agent's reward is its index + step / 100. Truncated after `length` steps."""

    def __init__(self, length: int) -> None:
        self.length, self.seed, self.count = length, 0, 0

    def reset(self, seed: int) -> None:
        self.seed, self.count = seed % 65536, 0

    def step(self) -> tuple[Floats, bool]:
        """The rewards, and whether the episode is over."""
        self.count += 1
        return np.array([i + self.count / 100 for i in range(3)], np.float32), self.count >= self.length

    @property
    def seen(self) -> Floats:
        return np.array([[self.seed, self.count, i] for i in range(3)], np.float32)


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "ReLU": lambda x: np.maximum(x, np.float32(0)),
    "Tanh": np.tanh,
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, np.float32(0)))),
}


class Policy:
    """A policy file, read as proto/README.md said, with some of the activations."""

    def __init__(self, data: bytes) -> None:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        self.spec = json.loads(header.pop("__metadata__")["covey"])
        body = data[8 + size :]
        self.tensors = {
            name: np.frombuffer(body[slice(*t["data_offsets"])], "<f4").reshape(t["shape"])
            for name, t in header.items()
        }

    def outputs(self, seen: Floats, number: int) -> Floats:
        """Outputs for what the agent of this index in its group sees."""
        network = self.spec["network"]
        encoder, head = network["inputs"][0]["encoder"], network["head"]
        one_hot = (np.arange(self.spec["indicator"]) == number).astype(np.float32)
        x = np.concatenate([seen, one_hot])
        latent = ACTIVATIONS[encoder["activation"]](self._mlp("encoder.observation", encoder, x))
        return self._mlp("head", head, latent)

    def unit(self, seen: Floats, number: int) -> NDArray[np.float64]:
        """A Box action in [-1, 1]."""
        z = self.outputs(seen, number).astype(np.float64)
        return np.tanh(z / 2) if self.spec["head"] == "deterministic" else np.clip(z, -1, 1)

    def _linear(self, prefix: str, x: Floats) -> Floats:
        y: Floats = x @ self.tensors[f"{prefix}.weight"] + self.tensors[f"{prefix}.bias"]
        return y

    def _mlp(self, prefix: str, mlp: Mapping[str, Any], x: Floats) -> Floats:
        for i in range(len(mlp["hidden_size"])):
            layer = f"{prefix}.{i}"
            y = self._linear(layer, x)
            if mlp["layer_norm"]:
                y = (y - y.mean()) / np.sqrt(y.var() + np.float32(1e-5))
                y = y * self.tensors[f"{layer}.norm.scale"] + self.tensors[f"{layer}.norm.bias"]
            x = np.asarray(ACTIVATIONS[mlp["activation"]](y), np.float32)
            if i in mlp["gated"]:
                x = np.asarray(y + self.tensors[f"{layer}.gate"] * (x - y), np.float32)
        return self._linear(f"{prefix}.out", x)


Players = Sequence[Policy | None]  # of each agent; None plays at random


class Slot:
    """One copy of the environment, and how far the episode is that it plays: its seed, number and returns so far."""

    def __init__(self, length: int) -> None:
        self.environment = Counter(length)
        self.running = False
        self.seed: int | None = None  # of the sequence of episodes
        self.episode = 0
        self.returns = np.zeros(3)
        self.task: tuple[Any, Players, int] | None = None  # of an evaluation slot: the task, who plays, the seed

    def begin(self, seed: int) -> None:
        self.environment.reset(seed)
        self.running, self.returns = True, np.zeros(3)

    def next_seed(self) -> int:
        digest = hashlib.sha256((self.seed or 0).to_bytes(8) + self.episode.to_bytes(8)).digest()
        return int.from_bytes(digest[:4]) >> 1


def act(seen: Floats, players: Players, rng: np.random.Generator, exploration: Any) -> Actions:
    """What each agent does; no exploration where its kind is unset. Ornstein-Uhlenbeck noise is not played."""
    actions: Actions = []
    for i, policy in enumerate(players):
        uniform = policy is None or (exploration.kind and rng.uniform() < exploration.scale)
        if i == 1:
            actions.append(10 + (int(rng.integers(4)) if uniform else int(policy.outputs(seen[i], 0).argmax())))  # type: ignore[union-attr]
        elif policy is None:
            actions.append(rng.uniform(1, 3, 2).astype(np.float32))
        else:
            unit = policy.unit(seen[i], i // 2)
            if exploration.kind:
                unit = np.clip(unit + exploration.mean + exploration.scale * rng.normal(size=2), -1, 1)
            actions.append((2 + unit).astype(np.float32))
    return actions


Row = tuple[int, Floats, Actions | None, Floats | None, bool]
"""Kind, observations, actions, rewards, and whether the episode was truncated with it."""


def encode(rows: Sequence[Row], level: int) -> tuple[bytes, int]:
    """The blob of these rows, and its length before compression."""
    columns = {name: np.zeros((len(rows), *shape), dtype) for name, dtype, shape in COLUMNS}
    for r, (kind, seen, actions, rewards, over) in enumerate(rows):
        columns["kind"][r] = kind
        for group, members in GROUPS.items():
            columns[f"{group}/observation"][r] = seen[list(members)]
            columns[f"{group}/active"][r] = kind != FINAL
            if actions is not None and rewards is not None:
                columns[f"{group}/action"][r] = [actions[i] for i in members]
                columns[f"{group}/reward"][r] = rewards[list(members)]
                columns[f"{group}/truncated"][r] = over
    raw = b"".join(columns[name].tobytes() for name, _, _ in COLUMNS)
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(raw), len(raw)


class Player:
    """All slots of an actor; `run` carries an order out."""

    def __init__(self, train_slots: int, eval_slots: int, length: int) -> None:
        self.training = [Slot(length) for _ in range(train_slots)]
        self.evaluation = [Slot(length) for _ in range(eval_slots)]
        self.queue: deque[tuple[Any, Players, int]] = deque()
        self.level = 1

    def run(self, order: Any, policies: Mapping[bytes, Policy], stop: Callable[[], bool]) -> Any:
        """The fragment that answers an order, without its seq."""
        fragment = MESSAGES["Fragment"](order_id=order.order_id, schema_hash=SCHEMA_HASH)
        rng = np.random.default_rng(order.noise_seed)
        who = [policies[ref.sha256] if ref.sha256 else None for ref in order.policies]
        rows: list[Row] = []
        for work in order.slots:
            rows += self._train(work, [who[i] for i in work.agent_policies], rng, fragment, stop)
        if rows:
            fragment.blob, fragment.raw_bytes = encode(rows, self.level)
        for task in order.evaluations:
            prefixes = b"".join(order.policies[i].sha256[:16].ljust(16, b"\0") for i in task.agent_policies)
            for seed in task.seeds:
                self.queue.append(((task, prefixes), [who[i] for i in task.agent_policies], seed))
        for number, slot in enumerate(self.evaluation):
            self._evaluate(number, slot, order.eval_steps, rng, fragment, stop)
        if stop():
            fragment.shortfall = DRAIN
        return fragment

    def _train(
        self, work: Any, players: Players, rng: np.random.Generator, fragment: Any, stop: Callable[[], bool]
    ) -> list[Row]:
        slot, rows = self.training[work.slot], list[Row]()
        stream = MESSAGES["SlotStream"](slot=work.slot)
        if work.restart or slot.seed is None:
            stream.cut_before = slot.running and slot.environment.count > 0
            slot.seed, slot.episode, slot.running = work.seed, 0, False
        while stream.steps < work.steps and not stop():
            if not slot.running:
                slot.begin(slot.next_seed())
            seen = slot.environment.seen
            actions = act(seen, players, rng, work.exploration)
            rewards, over = slot.environment.step()
            slot.returns += rewards
            rows.append((STEP, seen, actions, rewards, over))
            stream.steps += 1
            if over:
                rows.append((FINAL, slot.environment.seen, None, None, False))
                length = slot.environment.count
                fragment.episodes.add(slot=work.slot, returns=slot.returns, length=length, member_id=work.member_id)
                slot.running, slot.episode = False, slot.episode + 1
                if work.until_episode_end:
                    break
        if rows and slot.running:
            rows.append((TAIL, slot.environment.seen, None, None, False))
        stream.rows = len(rows)
        if rows:
            fragment.streams.append(stream)
        return rows

    def _evaluate(
        self, number: int, slot: Slot, steps: int, rng: np.random.Generator, fragment: Any, stop: Callable[[], bool]
    ) -> None:
        while steps and not stop():
            if slot.task is None:
                if not self.queue:
                    return
                slot.task = self.queue.popleft()
                slot.begin(slot.task[2])
            (task, prefixes), players, seed = slot.task
            act(slot.environment.seen, players, rng, MESSAGES["Exploration"]())
            rewards, over = slot.environment.step()
            slot.returns += rewards
            fragment.eval_steps += 1
            steps -= 1
            if over or slot.environment.count == task.max_episode_steps:
                fragment.episodes.add(
                    evaluation=True,
                    slot=number,
                    seed=seed,
                    returns=slot.returns,
                    length=slot.environment.count,
                    task_id=task.task_id,
                    policies=prefixes,
                )
                slot.task = None

    def forget_evaluations(self) -> None:
        """The learner has restarted: what it asked for before is void."""
        self.queue.clear()
        for slot in self.evaluation:
            slot.task = None
