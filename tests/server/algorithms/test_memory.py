"""IPPO with memory: what the learner believes actors remembered and did, against actors; and packs against members."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.support.asynchronous_play import RhythmsEnv
from tests.support.rounds import member

from covey.acting import Decisions, LoadedPolicy
from covey.collect import Collector
from covey.config import Config, parse_config
from covey.envs import SyncSlots, read_spaces
from covey.errors import ConfigError
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1.order_pb2 import Exploration, Order
from covey_server.algorithms import ALGORITHMS, build_networks, learning_group
from covey_server.algorithms.agent_types import padding_groups
from covey_server.algorithms.clipped_losses import policy_loss
from covey_server.algorithms.estimates import Estimates, estimates
from covey_server.algorithms.ippo import IPPO
from covey_server.evolution.architecture import mutate_architecture
from covey_server.evolution.generation import copied
from covey_server.evolution.memory import change_memory
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.rollouts import Rollout, Rollouts
from covey_server.ingest.validation import check_fragment
from covey_server.member import Member, MemberSizes
from covey_server.packing.policies import PolicyStore
from covey_server.storage.journal import Position

SLOTS = 3


class Rhythms(RhythmsEnv):
    """The same with observations that no two episodes share, so that each decision is known by what was seen."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed, options)
        self.seed = (seed or 0) / 2**28  # type: ignore[assignment]
        return self._next()

    def state(self) -> NDArray[np.float32]:
        return np.array([self.seed, len(self.agents)], np.float32)


def config(shared: bool = True, state: int = 20, **settings: Any) -> Config:
    return parse_config(
        {
            "algorithm": {"name": "IPPO", "share_parameters": shared, "bptt_steps": 5, **settings},
            "environment": {"name": "none"},
            "network": {
                "latent_dim": 8,
                "encoder_config": {"hidden_size": [9], "recurrent": True, "hidden_state_size": state},
                "head_config": {"hidden_size": [7]},
            },
            "training": {"seed": 11},
        }
    )


class Play:
    """An actor's environments, played for one member after the other, and what the learner takes in of it."""

    def __init__(self, spaces: EnvironmentSpaces) -> None:
        self.spaces, self.schema = spaces, RowSchema.of(spaces)
        self.collector = Collector(SyncSlots(Rhythms, spaces, SLOTS), spaces, self.schema, SLOTS, 1)
        self.rollouts = Rollouts(spaces)
        self.taken_in: list[AcceptedRows] = []
        self.orders = 0

    def gather(self, store: PolicyStore, member_id: int, orders: int, steps: int = 4) -> list[LoadedPolicy]:
        """Play some orders; returns who played each agent."""
        refs = store.refs(member_id)
        policies = {ref.sha256: LoadedPolicy.decode(store.get(ref.sha256) or b"") for ref in refs}
        for _ in range(orders):
            self.orders += 1
            order = Order(order_id=self.orders, noise_seed=self.orders)
            order.policies.extend(refs)
            for slot in range(SLOTS):
                work = order.slots.add(slot=slot, member_id=member_id, steps=steps, seed=slot)
                work.agent_policies.extend(range(len(refs)))
                work.exploration.kind = Exploration.KIND_SAMPLE
            sent = self.collector.run(order, policies)
            accepted = check_fragment(
                sent, order, self.schema, self.spaces, unclipped=True, state_size=store.state_size
            )
            rows = AcceptedRows(
                accepted.raw, accepted.rows, sent.streams, accepted.streams, "actor", Position(0, self.orders)
            )
            self.rollouts.add(rows, [member_id])
            self.taken_in.append(rows)
        return [policies[ref.sha256] for ref in refs]


class Watched:
    """What actors remembered before each decision and thought of it, noted where they decide: by agent, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spaces: EnvironmentSpaces) -> None:
        self.before: list[Estimates] = []
        self.log_ratios: list[torch.Tensor] = []
        of_round, of_loss = estimates, policy_loss

        def noted(*args: Any, **kwargs: Any) -> Estimates:
            self.before.append(of_round(*args, **kwargs))
            return self.before[-1]

        def loss(log_ratio: torch.Tensor, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
            self.log_ratios.append(log_ratio.detach())
            return of_loss(log_ratio, *args)

        monkeypatch.setattr(learning_group, "estimates", noted)
        monkeypatch.setattr(learning_group, "policy_loss", loss)
        # Outputs by what was seen: the environment's observations (episode's seed, step, agent) differ everywhere.
        self.outputs: dict[tuple[float, ...], NDArray[np.float32]] = {}
        decide = Decisions.decide

        def watch(own: Decisions, observation: Any, mask: Any, rng: Any, present: Any, living: Any) -> Any:
            acted = decide(own, observation, mask, rng, present, living)
            outputs = own._rows._outputs
            for out in own._layout.leaves:
                view = outputs[:, out.columns].reshape(len(outputs), len(out.agents), out.width)
                column = sum(len(g) for g in spaces.groups[: out.group])
                for slot, n in zip(*np.nonzero(present[:, column : column + len(out.agents)]), strict=True):
                    self.outputs[tuple(observation[out.group][slot, n].tolist())] = view[slot, n].copy()
            return acted

        monkeypatch.setattr(Decisions, "decide", watch)


@pytest.mark.parametrize("shared", [True, False])
def test_probabilities_of_what_actors_did_are_those_that_the_learner_starts_from(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents that wait, appear, die, have masks and are forced; orders shorter than episodes; three rounds."""
    spaces = read_spaces(Rhythms())
    made = config(shared, batch_size=10, update_epochs=1, agent_indicator=True, action_std_init=-0.5)
    learner = IPPO(made, spaces, [member(0, made, spaces)])
    store, play = PolicyStore(spaces, made.algorithm), Play(spaces)
    watched = Watched(monkeypatch, spaces)
    carried = 0
    for _ in range(3):
        store.offer(learner.snapshot())
        store.publish([0])
        for noted in (watched.outputs, watched.before, watched.log_ratios):
            noted.clear()
        players = play.gather(store, 0, orders=5)
        assert play.rollouts.steps(0) == 5 * SLOTS * 4
        taken = play.rollouts.take(0)
        carried += sum(bool(np.any(a.starts)) for a in taken.agents)
        monkeypatch.setattr(play.rollouts, "take", lambda _, taken=taken: taken)
        learner.update([0], play.rollouts)
        monkeypatch.delattr(play.rollouts, "take")
        found = torch.cat([e.log_prob for e in watched.before]).numpy()
        expected, chose = [], []
        for own in (own for group in padding_groups(spaces, made.algorithm) for own in group):
            for its in own.ids.values():
                for agent in its:
                    d = taken.agents[agent]
                    seen = d.view[d.here].reshape(len(d.here), -1)
                    y = np.array([watched.outputs[tuple(row.tolist())] for row in seen])
                    log_std = players[agent].params.get("log_std")
                    free = None if log_std is None else torch.from_numpy(log_std)[None]
                    mask = None if d.mask is None else torch.from_numpy(own.distribution.legal(d.mask))[None]
                    action = torch.from_numpy(own.distribution.encode(d.action))[None]
                    expected.append(
                        own.distribution.log_probs(torch.from_numpy(y)[None], free, action, mask).log_prob[0]
                    )
                    chose.append(~d.forced)
        chosen = np.concatenate(chose)
        assert not chosen.all() and len(found) == len(chosen)
        assert np.abs(found - torch.cat(expected).numpy())[chosen].max() < 1e-5
        # The first minibatch of sequences of each padding group; from the second on, policies have moved.
        first = [x for x in watched.log_ratios if x.numel() and float(x.abs().max()) < 1e-5]
        assert len(first) >= len(padding_groups(spaces, made.algorithm))
    assert carried, "some trajectory goes on from a round before"


def test_off_policy_algorithms_refuse_memory() -> None:
    spaces = read_spaces(Rhythms())
    for name in ("MADDPG", "MATD3"):
        made = parse_config(
            {
                "algorithm": {"name": name},
                "environment": {"name": "none"},
                "network": {"encoder_config": {"recurrent": True}},
                "training": {},
            }
        )
        with pytest.raises(ConfigError, match=f"recurrent: true, but {name} trains policies without memory"):
            build_networks(made, spaces, np.random.default_rng(0))


def rounds_of(members: list[Member], made: Config, spaces: EnvironmentSpaces) -> dict[int, Rollout]:
    """A round of each member, played by its own policies; slots begin anew for each."""
    taken = {}
    for m in members:
        learner = ALGORITHMS[made.algorithm.name](made, spaces, [m])
        store, play = PolicyStore(spaces, made.algorithm), Play(spaces)
        store.offer(learner.snapshot())
        store.publish([m.member_id])
        play.gather(store, m.member_id, orders=3)
        taken[m.member_id] = play.rollouts.take(m.member_id)
    return taken


class Given:
    """Rounds that were taken before."""

    def __init__(self, rounds: dict[int, Rollout]) -> None:
        self._rounds = rounds

    def take(self, member_id: int) -> Rollout:
        return self._rounds[member_id]


@pytest.mark.parametrize("name", ["IPPO", "MAPPO", "MAPPO, state"])
@pytest.mark.parametrize("shared", [True, False])
def test_packed_learning_is_member_by_member_learning_after_twenty_mutations(shared: bool, name: str) -> None:
    spaces = read_spaces(Rhythms(), state="state" in name)
    made = config(shared, name=name.partition(",")[0], batch_size=10, update_epochs=2)
    implementation = ALGORITHMS[made.algorithm.name]
    members = [member(i, made, spaces) for i in range(3)]
    rng = np.random.default_rng(5)
    for m in members[1:]:
        done = [mutate_architecture(m, 0.3, rng)[1] for _ in range(20)]
        if not any("memory" in words for words in done):
            changed = change_memory(m.networks, True, 16, rng)
            m.networks.update({key: network for key, (network, _) in changed.items()})
    assert len({n.spec.state_size for m in members for n in m.networks.values()}) > 2
    rounds = rounds_of(members, made, spaces)
    alone = [copied(m) for m in members]
    population = [MemberSizes.of(m) for m in members]
    together = implementation(made, spaces, members)
    together.update([0, 1, 2], Given(rounds))
    together.unpack()
    for m, own in zip(members, alone, strict=True):
        by_itself = implementation(made, spaces, [own], population=population)
        by_itself.update([0], Given(rounds))
        by_itself.unpack()
        for key, network in m.networks.items():
            for name, values in network.params.items():
                np.testing.assert_array_equal(values, own.networks[key].params[name], err_msg=f"{key} {name}")


def test_agents_with_and_without_memory_learn_beside_each_other() -> None:
    """Walkers remember, the others do not; members whose memories differ much are due one by one."""
    spaces = read_spaces(Rhythms())
    plain = {"latent_dim": 8, "encoder_config": {"hidden_size": [9]}, "head_config": {"hidden_size": [7]}}
    memory = {**plain, "encoder_config": {"hidden_size": [9], "recurrent": True, "hidden_state_size": 20}}
    made = parse_config(
        {
            "algorithm": {"name": "IPPO", "bptt_steps": 5, "batch_size": 10},
            "environment": {"name": "none"},
            "network": {"walker": memory, "chooser": plain, "sleeper": plain},
            "training": {"seed": 11},
        }
    )
    members = [member(i, made, spaces) for i in range(2)]
    grown = change_memory(members[1].networks, True, 400, np.random.default_rng(0))
    members[1].networks.update({key: network for key, (network, _) in grown.items()})
    assert members[1].networks["critic/walker"].spec.reads_memory == 420
    rounds = rounds_of(members, made, spaces)
    together = [copied(m) for m in members]
    apart = IPPO(made, spaces, members)
    for i in range(2):
        apart.update([i], Given(rounds))  # type: ignore[arg-type]
    apart.unpack()
    at_once = IPPO(made, spaces, together)
    at_once.update([0, 1], Given(rounds))  # type: ignore[arg-type]
    at_once.unpack()
    for m, own in zip(members, together, strict=True):
        for key, network in m.networks.items():
            assert network.adam_steps > 0
            for name, values in network.params.items():
                np.testing.assert_array_equal(values, own.networks[key].params[name], err_msg=f"{key} {name}")


def test_a_restarted_learner_finds_what_was_remembered_in_the_journal() -> None:
    spaces = read_spaces(Rhythms())
    made = config()
    store, play = PolicyStore(spaces, made.algorithm), Play(spaces)
    store.offer(IPPO(made, spaces, [member(0, made, spaces)]).snapshot())
    store.publish([0])
    play.gather(store, 0, orders=2)
    play.rollouts.take(0)  # learned from before the checkpoint
    play.gather(store, 0, orders=3)
    restarted = Rollouts(spaces)
    restarted.from_state(json.loads(json.dumps(play.rollouts.to_state())))
    for rows in play.taken_in:
        restarted.restore(rows)
    before, after = play.rollouts.take(0), restarted.take(0)
    assert any(np.any(d.starts) for d in before.agents)
    for d, found in zip(before.agents, after.agents, strict=True):
        np.testing.assert_array_equal(np.asarray(found.starts), np.asarray(d.starts))
        np.testing.assert_array_equal(found.view, d.view)
