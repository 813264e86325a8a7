"""Learning from normalised observations and scaled rewards: what the learner reads is what actors read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.support import replays, rounds
from tests.support.members import assert_same_networks
from tests.support.random_play import fragments, play

from covey.errors import ConfigError
from covey.networks.normalisation import CLIP, MEAN, SCALE, Moments
from covey.observations import ObservationEncoding
from covey.rows import RowSchema
from covey_server.algorithms import ALGORITHMS
from covey_server.algorithms.ippo import IPPO
from covey_server.algorithms.normalised_batches import NormalisedBatches
from covey_server.algorithms.statistics import discounted
from covey_server.evolution.generation import child_of
from covey_server.experience.batch import Batch
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.parts import Part
from covey_server.experience.replay import Replay
from covey_server.experience.stream import Stream
from covey_server.member import Member
from covey_server.packing import counter_rng
from covey_server.storage.journal import Position


def experienced(members: Sequence[Member]) -> list[Member]:
    """The members as if they had observed something, each something else."""
    for m in members:
        rng = np.random.default_rng(m.member_id)
        for network in m.networks.values():
            if network.observed is not None:
                n = len(network.observed.mean)
                network.observed = Moments.of(rng.normal(size=n) + rng.uniform(0.1, 2, n) * rng.normal(size=(50, n)))
    return list(members)


def sample(replay: Replay, members: int, size: int = 40) -> Batch:
    return replay.sample(counter_rng.keys(0, range(members), [0] * members), torch.tensor([size] * members), size)


def _members_axis(x: torch.Tensor) -> int:
    """(..., M, B, numbers): a batch's tensors have the members third from the end."""
    return x.dim() - 3


@pytest.mark.parametrize("spaces", [replays.MIXED, replays.SEEN], ids=["at once", "in turns"])
@pytest.mark.parametrize("shared", [True, False])
def test_samples_are_normalised_as_actors_read_them(spaces: Any, shared: bool) -> None:
    """To the bit, each member's by its own statistics; absent agents stay zeros, choices as they are."""
    made = replays.config("MADDPG", shared, normalize_observations=True)
    members = experienced([replays.member(i, made, spaces) for i in range(3)])
    keys = [key.removeprefix("actor/") for key in members[0].networks if key.startswith("actor/")]
    ids = {
        i: tuple(a for a, agent in enumerate(spaces.agents) if i in (agent.agent_id, agent.agent_id.split("_")[0]))
        for i in keys
    }
    batch = sample(replays.filled(spaces), 3)
    before = [x.clone() for x in batch.tensors()]
    chosen = (0, 2)
    at = torch.tensor(chosen)
    own = batch.of([x.index_select(_members_axis(x), at) for x in batch.tensors()])
    read = NormalisedBatches(spaces, ids, members, torch.device("cpu"))(chosen, own)
    assert all(torch.equal(x, y) for x, y in zip(before, batch.tensors(), strict=True)), "the given batch stays"
    owner = {agent: i for i, agents in ids.items() for agent in agents}
    absent = 0
    for raw, found, part in (
        (own.observation, read.observation, own.part),
        (own.next_observation, read.next_observation, own.next_part),
    ):
        for group, x, y in zip(spaces.groups, raw, found, strict=True):
            width = group.observation.width
            for k, agent in enumerate(group.agents):
                columns = slice(k * width, (k + 1) * width)
                for m, who in enumerate(chosen):
                    moments = members[who].networks[f"actor/{owner[agent]}"].observed
                    expected = x[..., m, :, columns].numpy()
                    if moments is not None:
                        t = moments.tensors()
                        expected = np.clip((expected - t[MEAN]) * t[SCALE], np.float32(-CLIP), np.float32(CLIP))
                    if part is not None:
                        there = (part[..., m, :, agent] != Part.ABSENT).numpy()
                        absent += int((~there).sum())
                        expected = expected * there[..., None]
                    assert np.array_equal(y[..., m, :, columns].numpy(), expected), (group.group_id, agent)
    assert absent or not spaces.asynchronous


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3", "MASAC"])
def test_learning_normalised_is_learning_from_normalised_samples(algorithm: str) -> None:
    """Members of one pack with statistics of their own learn what each learns alone from samples made by hand."""
    spaces, off = replays.spaces_for(algorithm), replays.config(algorithm, True)
    on = replays.config(algorithm, True, normalize_observations=True)
    replay = replays.filled(spaces)
    together = experienced([replays.member(i, on, spaces) for i in range(3)])
    for m in together:
        m.updates = 0
    learner = ALGORITHMS[algorithm](on, spaces, together)
    for _ in range(3):
        learner.update([0, 1, 2], replay)
    learner.unpack()
    for i, packed in enumerate(together):
        alone = replays.member(i, off, spaces)
        alone.updates = 0
        single: Any = ALGORITHMS[algorithm](off, spaces, [alone])
        hand: Any = ALGORITHMS[algorithm](on, spaces, experienced([replays.member(i, on, spaces)]))
        for _ in range(3):
            chosen, batch, keys = single.draw([0], replay)
            single.learn(chosen, hand._normalise(chosen, batch), keys)
        single.unpack()
        for key, network in packed.networks.items():
            for name, values in network.params.items():
                np.testing.assert_allclose(values, alone.networks[key].params[name], rtol=2e-4, atol=2e-6)


def test_members_observe_what_they_played_before_they_learn_from_it() -> None:
    made = replays.config("MADDPG", True, normalize_observations=True)
    spaces = replays.MIXED
    members = [replays.member(i, made, spaces) for i in range(2)]
    replay = replays.filled(spaces)
    replay.observe()
    assert replay.observed is not None
    samples = np.random.default_rng(0).normal(size=(30, 4)) * 1e3
    replay.observed.join(0, {0: Moments.of(samples[:20]), 2: Moments.of(samples[20:])})
    learner = ALGORITHMS["MADDPG"](made, spaces, members)
    before = learner.snapshot().policies(0)["walker"][1]
    learner.update([1], replay)
    assert np.array_equal(learner.snapshot().policies(0)["walker"][1][MEAN], before[MEAN]), "it was not due"
    learner.update([0], replay)
    found = members[0].networks["actor/walker"].observed
    assert found is not None and found.count == 30
    np.testing.assert_allclose(found.mean, samples.mean(0))
    published = learner.snapshot().policies(0)["walker"][1]
    np.testing.assert_allclose(published[SCALE], 1 / samples.std(0), rtol=1e-6)
    assert members[1].networks["actor/walker"].observed.count == 0  # type: ignore[union-attr]
    child = child_of(members[0], 7, 1)
    assert child.networks["actor/walker"].observed is found


def test_a_round_is_read_with_the_statistics_that_it_was_played_with_and_moves_them_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spaces = rounds.ASYNCHRONOUS
    made = rounds.config(normalize_observations=True, scale_rewards=True, update_epochs=1)
    members = experienced([rounds.member(i, made, spaces) for i in range(2)])
    before = {m.member_id: m.networks["actor/walker"].observed for m in members}
    rollouts = rounds.together(spaces, {0: 24, 1: 24}, 0)
    taken = {i: rollouts.take(i) for i in (0, 1)}
    monkeypatch.setattr(rollouts, "take", taken.__getitem__)
    learner = IPPO(made, spaces, members)
    learner.update([0, 1], rollouts)
    learner.unpack()
    for m in members:
        network = m.networks["actor/walker"]
        own = [taken[m.member_id].agents[a] for a in (0, 2)]
        seen = np.concatenate([d.view[d.here] for d in own])
        old = before[m.member_id]
        assert network.observed is not None and old is not None
        expected = old.joined(Moments.of(ObservationEncoding.of(spaces.agents[0].observation).encode(seen)))
        assert network.observed.count == expected.count == old.count + len(seen)
        np.testing.assert_allclose(network.observed.mean, expected.mean, rtol=1e-9)
        np.testing.assert_allclose(network.observed.squares, expected.squares, rtol=1e-9)
        gamma = m.hyperparameters.numbers()["gamma"]
        returns = np.concatenate([discounted(d.reward, d.steps, d.continues, gamma) for d in own])
        earned = m.networks["critic/walker"].earned
        assert earned is not None and earned.count == len(returns)
        np.testing.assert_allclose(1 / earned.scale[0], returns.std(), rtol=1e-9)
        assert m.networks["actor/switch_0" if "actor/switch_0" in m.networks else "actor/switch"].observed is None


@pytest.mark.parametrize("name", ["IPPO", "MAPPO", "MAPPO, state"])
def test_packed_rounds_are_those_of_each_member_by_itself(name: str) -> None:
    spaces = rounds.stated(rounds.SIMULTANEOUS, "float32") if "state" in name else rounds.SIMULTANEOUS
    made = rounds.config(name=name.partition(",")[0], normalize_observations=True, scale_rewards=True)
    implementation = ALGORITHMS[made.algorithm.name]
    together = experienced([rounds.member(i, made, spaces) for i in range(3)])
    apart = experienced([rounds.member(i, made, spaces) for i in range(3)])
    steps = {0: 24, 1: 16, 2: 24}
    learner = implementation(made, spaces, together)
    for seed in (0, 1):
        learner.update([0, 1, 2], rounds.together(spaces, steps, seed))
    learner.unpack()
    for i, m in enumerate(apart):
        single = implementation(made, spaces, [m])
        for seed in (0, 1):
            single.update([0], rounds.together(spaces, {i: steps[i]}, seed))
        single.unpack()
        for key, network in m.networks.items():
            for name, values in network.params.items():
                np.testing.assert_allclose(values, together[i].networks[key].params[name], rtol=1e-3, atol=1e-5)
            for moments, others in (
                (network.observed, together[i].networks[key].observed),
                (network.earned, together[i].networks[key].earned),
            ):
                assert (moments is None) == (others is None)
                if moments is not None and others is not None:
                    assert moments.to_json() == others.to_json()


def test_scaled_rewards_are_learned_from_alike_in_any_unit() -> None:
    """Rewards a thousand times as large teach the same, but for rounding."""
    spaces = rounds.SIMULTANEOUS
    made = rounds.config(scale_rewards=True)
    found = []
    for unit in (1.0, 1024.0):
        m = rounds.member(0, made, spaces)
        rollouts = rounds.gathered(spaces, 0, 24, 0)
        for held in rollouts._rounds[0].fragments:
            for group in spaces.groups:
                rewards: NDArray[Any] = held.columns[f"{group.group_id}/reward"]
                rewards *= unit
        learner = IPPO(made, spaces, [m])
        learner.update([0], rollouts)
        learner.unpack()
        found.append(m)
    for key, network in found[0].networks.items():
        for name, values in network.params.items():
            np.testing.assert_allclose(values, found[1].networks[key].params[name], rtol=1e-4, atol=1e-6)


def test_discounted_returns_go_forward_within_trajectories() -> None:
    reward = np.array([1, 2, 4, 1, 1], np.float32)
    steps, continues = np.array([1, 1, 1, 2, 1]), np.array([True, True, False, True, False])
    assert discounted(reward, steps, continues, 0.5).tolist() == [1, 2.5, 5.25, 1, 1.25]


def test_nothing_is_kept_where_nothing_is_asked_for() -> None:
    for support, name in ((replays, "MADDPG"), (rounds, "IPPO")):
        made = support.config(*(() if name == "IPPO" else (name,)))
        spaces = replays.MIXED if name == "MADDPG" else rounds.SIMULTANEOUS
        m = support.member(0, made, spaces)
        assert all(n.observed is None and n.earned is None for n in m.networks.values())
        learner = ALGORITHMS[name](made, spaces, [m])
        assert all(MEAN not in params for _, params in learner.snapshot().policies(0).values())
    assert replays.filled(replays.MIXED).observed is None


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("name", ["MADDPG", "MATD3", "MASAC"])
def test_rewards_are_not_scaled_where_replay_is_learned_from(name: str, value: bool) -> None:
    with pytest.raises(ConfigError, match=f"scale_rewards: expected it left out with {name}, whose replay"):
        replays.config(name, scale_rewards=value)


def test_rows_of_actors_are_counted_as_they_are_added_and_not_as_they_are_restored() -> None:
    spaces = replays.SEEN
    replay = Replay(spaces, 1000, 1 << 24)
    replay.observe()
    cut = fragments(play(spaces, 4, 0), spaces, [1000])[0]
    schema = RowSchema.of(spaces)
    raw = b"".join(np.ascontiguousarray(cut.columns[name]).tobytes() for name in schema.empty(0))
    (s,) = cut.streams
    rows = s.rows + s.lead_in_rows
    stream = Stream(s.slot, 5, 0, rows, s.lead_in_rows, s.steps, s.cut_before)
    accepted = AcceptedRows(raw, rows, cut.streams, (stream,), "actor", Position(0, 0))
    replay.restore(accepted)
    assert replay.observed is not None and not replay.observed.take(5) and len(replay) == s.steps
    replay.add(accepted, [5])
    state = replay.to_state()
    again = Replay(spaces, 1000, 1 << 24)
    again.observe()
    again.from_state(state)
    assert again.observed is not None
    one, other = replay.observed.take(5), again.observed.take(5)
    assert one.keys() == other.keys() == {1, 3, 4}
    assert all(one[a].to_json() == other[a].to_json() for a in one)


def test_members_of_equal_weights_and_statistics_are_the_same() -> None:
    made = rounds.config(normalize_observations=True)
    one, other = (rounds.member(0, made, rounds.SIMULTANEOUS) for _ in range(2))
    assert_same_networks(one, other)
