"""What networks read where rows hold the state of the whole environment, and how that is normalised and begun with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.support import replays, rounds
from tests.support.members import assert_same_networks
from tests.support.plain_value_decomposition import ALIKE, made_for, team_replay

from covey.config import Config, parse_config
from covey.networks.normalisation import CLIP, MEAN, SCALE, Moments
from covey.rows import STATE, RowKind
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey_server.algorithms import ALGORITHMS, build_networks
from covey_server.algorithms.joint_view import JointView
from covey_server.experience.batch import Batch
from covey_server.experience.observed import OF_STATE
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.member import Member, MemberSizes
from covey_server.storage.warm_start import WarmStart

IMAGE = Box("uint8", (9, 9, 2), (0.0,) * 162, (255.0,) * 162)
CPU = torch.device("cpu")


def seeing(image: Box, agents: int = 2, **more: Any) -> EnvironmentSpaces:
    return EnvironmentSpaces.build([AgentSpec(f"eye_{i}", image, Discrete(3)) for i in range(agents)], **more)


def configured(algorithm: dict[str, Any], encoder: dict[str, Any], latent: int = 8) -> Config:
    return parse_config(
        {
            "algorithm": algorithm,
            "environment": {"name": "none"},
            "network": {"latent_dim": latent, "encoder_config": encoder, "head_config": {"hidden_size": [7]}},
            "training": {"seed": 11},
        }
    )


def critic_of(name: str, spaces: EnvironmentSpaces, encoder: dict[str, Any]) -> Any:
    made = configured({"name": name}, encoder)
    networks = build_networks(made, spaces, np.random.default_rng(0))
    return next(network.spec for key, network in networks.items() if key.startswith(("critic", "mixer")))


@pytest.mark.parametrize(
    ("encoder", "kind", "for_mixer"),
    [
        ({"hidden_size": [6]}, "mlp", "mlp"),
        ({"kind": "simba", "hidden_size": [6]}, "simba", "simba"),
    ],
)
def test_the_state_is_read_by_the_configured_kind_of_encoder(
    encoder: dict[str, Any], kind: str, for_mixer: str
) -> None:
    spaces = rounds.stated(ALIKE)
    (read,) = critic_of("MAPPO", spaces, encoder).inputs
    assert (read.name, read.width, read.encoder.kind) == ("observation", 3 + 4, kind)
    (read,) = critic_of("QMIX", spaces, encoder).inputs
    assert (read.name, read.width, read.copies, read.encoder.kind) == ("state", 4, 1, for_mixer)


@pytest.mark.parametrize("encoder", [{"channel_size": [4]}, {"kind": "cnn"}, {"kind": "resnet", "channel_size": [4]}])
def test_beside_images_the_state_is_numbers(encoder: dict[str, Any]) -> None:
    """It joins behind the convolutions; for a mixer it is a vector of its own. So it is where it is an image itself."""
    for state in (IMAGE, rounds.stated(ALIKE).state):
        assert state is not None
        spaces = replace(seeing(IMAGE), state=state)
        (read,) = critic_of("MAPPO", spaces, encoder).inputs
        assert (read.width, read.encoder.kind) == (162 + state.width, encoder.get("kind", "cnn"))
        (read,) = critic_of("QMIX", spaces, encoder).inputs
        assert (read.width, read.encoder.kind) == (state.width, "mlp")


def test_stacks_of_observations_are_read_beside_the_state_of_now() -> None:
    spaces = rounds.stated(EnvironmentSpaces.build(ALIKE.agents, frame_stack=3))
    (read,) = critic_of("MAPPO", spaces, {"hidden_size": [6]}).inputs
    assert read.width == 3 * 3 + 4
    taken = rounds.gathered(spaces, 0, 16, 0).take(0)
    view, its = JointView(spaces, CPU), taken.agents[1]
    read_of = [source[its.rows].reshape(len(its.rows), -1) for source in view.sources(1, taken)]
    assert its.state is not None
    np.testing.assert_array_equal(read_of[-1], its.state.reshape(len(its.rows), -1))
    np.testing.assert_array_equal(read_of[0], its.view.reshape(len(its.rows), -1))
    assert [encode.width for encode in view.encodings(1)] == [9, 4] and view.width(1) == 13


def test_all_that_act_at_different_times_are_told_of_beside_the_state() -> None:
    view = JointView(rounds.stated(rounds.ASYNCHRONOUS), CPU)
    at_work = sum(1 + agent.action.width for agent in rounds.ASYNCHRONOUS.agents)
    for agent in range(6):
        assert view.seen(agent) == [agent] and sorted(view.order(agent)) == [0, 1, 2, 3, 4, 5]
        assert view.width(agent) == rounds.ASYNCHRONOUS.agents[agent].observation.width + 4 + at_work


LOOKS: dict[str, tuple[EnvironmentSpaces, dict[str, Any]]] = {
    "images": (seeing(IMAGE), {"channel_size": [4], "min_channel_size": 2}),
    "images, state": (rounds.stated(seeing(IMAGE)), {"channel_size": [4], "min_channel_size": 2}),
    "stacked images, state": (rounds.stated(seeing(IMAGE, frame_stack=2)), {"channel_size": [4]}),
    "images by a residual network, state": (
        rounds.stated(seeing(IMAGE)),
        {"kind": "resnet", "channel_size": [4], "num_blocks": 1},
    ),
}


@pytest.mark.parametrize("look", LOOKS)
def test_packed_value_networks_of_images_learn_what_they_learn_alone(look: str) -> None:
    """To the bit, whoever learns beside them."""
    spaces, encoder = LOOKS[look]
    settings = {"name": "MAPPO", "batch_size": 16, "update_epochs": 2, "lr": 1e-3}

    def population() -> list[Member]:
        return [rounds.member(i, configured(settings, encoder, 8 + 4 * i), spaces) for i in range(3)]

    made, together, apart = configured(settings, encoder), population(), population()
    sizes = [MemberSizes.of(m) for m in together]
    learner = ALGORITHMS["MAPPO"](made, spaces, together)
    learner.update([0, 1, 2], rounds.together(spaces, dict.fromkeys(range(3), 16), 0))
    learner.unpack()
    for i, own in enumerate(apart):
        alone = ALGORITHMS["MAPPO"](made, spaces, [own], population=sizes)
        alone.update([0], rounds.together(spaces, {i: 16}, 0))
        alone.unpack()
        assert_same_networks(own, together[i])
        assert all(n.adam_steps > 0 and np.isfinite(p).all() for n in own.networks.values() for p in n.params.values())


def known(members: Sequence[Member]) -> dict[str, Moments]:
    """Gives networks statistics of something; all that read the state the same ones. Returns them by network."""
    found = {}
    for m in members:
        for key, network in m.networks.items():
            if network.observed is not None:
                rng = np.random.default_rng(sum(map(ord, key)) if key.startswith("actor") else 1)
                n = len(network.observed.mean)
                found[key] = network.observed = Moments.of(rng.normal(size=n) + rng.normal(2, 3, (50, n)))
    return found


def by_hand(x: Any, moments: Moments) -> Any:
    t = moments.tensors()
    flat = (np.asarray(x).reshape(-1, len(moments.mean)) - t[MEAN]) * t[SCALE]
    return np.clip(flat, -CLIP, CLIP).reshape(np.shape(x))


def test_a_value_network_reads_the_state_by_statistics_of_its_own_which_move_on() -> None:
    spaces = rounds.stated(rounds.SIMULTANEOUS, "float32")
    on = rounds.config(name="MAPPO", normalize_observations=True, batch_size=16, update_epochs=2)
    off = rounds.config(name="MAPPO", batch_size=16, update_epochs=2)
    normalising, plain = rounds.member(0, on, spaces), rounds.member(0, off, spaces)
    statistics = known([normalising])
    assert set(statistics) == set(normalising.networks), "value networks have some of the state"
    taken = rounds.gathered(spaces, 0, 24, 0).take(0)
    given = rounds.gathered(spaces, 0, 24, 0)
    for held in given._rounds[0].fragments:
        for group in spaces.groups:
            seen: Any = held.columns[f"{group.group_id}/observation"]
            seen[:] = by_hand(seen, statistics[f"actor/{group.group_id}"])
        state: Any = held.columns[STATE]
        state[:] = by_hand(state, statistics[f"critic/{spaces.groups[0].group_id}"])

    def learn(made: Config, m: Member, experience: Rollouts) -> None:
        learner = ALGORITHMS["MAPPO"](made, spaces, [m])
        learner.update([0], experience)
        learner.unpack()

    learn(on, normalising, rounds.gathered(spaces, 0, 24, 0))
    learn(off, plain, given)
    for key, network in normalising.networks.items():
        for name, values in network.params.items():
            np.testing.assert_allclose(values, plain.networks[key].params[name], rtol=1e-3, atol=1e-5)
    for agent, group in enumerate(spaces.groups):
        critic, before = normalising.networks[f"critic/{group.group_id}"], statistics[f"critic/{group.group_id}"]
        d = taken.agents[agent]
        expected = before.joined(Moments.of(taken.columns[STATE][d.rows[d.here]].reshape(len(d.here), -1)))
        assert critic.observed is not None and critic.observed.to_json() == expected.to_json()


class NormalisedReplay(Replay):
    """A memory whose samples were normalised by hand, for one member."""

    statistics: dict[str, Moments]

    def sample(self, *args: Any, **kwargs: Any) -> Batch:
        batch = super().sample(*args, **kwargs)
        own, of_state = self.statistics["actor/a"], self.statistics.get("mixer/team")

        def of(seen: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            # Who is not there is seen as zeros.
            there = [
                x.unflatten(-1, (3, 3)).any(-1, keepdim=True).expand(*x.shape[:-1], 3, 3).flatten(-2) for x in seen
            ]
            return tuple(torch.from_numpy(by_hand(x.numpy(), own)) * t for x, t in zip(seen, there, strict=True))

        batch = replace(batch, observation=of(batch.observation), next_observation=of(batch.next_observation))
        if of_state is None:
            return batch
        assert batch.state is not None and batch.next_state is not None
        state, after = (torch.from_numpy(by_hand(x.numpy(), of_state)) for x in (batch.state, batch.next_state))
        return replace(batch, state=state, next_state=after)


@pytest.mark.parametrize(("name", "stated"), [("VDN", False), ("QMIX", False), ("QMIX", True)])
def test_utilities_and_mixers_read_normalised_samples(name: str, stated: bool) -> None:
    spaces = rounds.stated(ALIKE, "float32") if stated else ALIKE
    on, off = made_for(name, normalize_observations=True), made_for(name)
    normalising, other, plain = (replays.member(i % 2, made, spaces) for i, made in enumerate((on, on, off)))
    statistics = known([normalising])
    assert set(statistics) == {"actor/a"} | ({"mixer/team"} if stated else set())
    known([other])
    members = [normalising, other]
    packed, alone = ALGORITHMS[name](on, spaces, members), ALGORITHMS[name](off, spaces, [plain])
    replay, by_hand_too = team_replay(spaces, True), team_replay(spaces, True, kind=NormalisedReplay)
    assert isinstance(by_hand_too, NormalisedReplay)
    by_hand_too.statistics = statistics
    for due in ([0, 1], [0], [0, 1]):
        packed.update(due, replay)
        alone.update([0], by_hand_too)
    packed.unpack()
    alone.unpack()
    assert packed.metrics()[0] == pytest.approx(alone.metrics()[0], rel=1e-4)
    for key, network in normalising.networks.items():
        for parameter, values in network.params.items():  # each moves by about lr, 0.001, in an update
            np.testing.assert_allclose(values, plain.networks[key].params[parameter], rtol=0, atol=1e-4)


def test_a_mixer_counts_the_states_that_its_member_went_through() -> None:
    spaces = rounds.stated(ALIKE, "float32")
    made = made_for("QMIX", normalize_observations=True)
    m = replays.member(0, made, spaces)
    replay = team_replay(spaces, False)
    assert replay.observed is None
    replay.observe()
    assert replay.observed is not None
    columns = rounds.stream_rows(spaces, np.random.default_rng(0), 12)
    stream = rounds.Stream(0, 0, 0, len(columns["kind"]), 0, 12, False)
    replay.observed.add(columns, [stream], [0, 1])
    waiting = replay.observed.to_state()
    assert set(waiting["0"]) == {"0", "1", "2", str(OF_STATE)}
    replay.observed.from_state(waiting)
    learner = ALGORITHMS["QMIX"](made, spaces, [m])
    learner.update([0], replay)
    found = m.networks["mixer/team"].observed
    went = columns[STATE][columns["kind"] == RowKind.STEP].reshape(12, 4)
    assert found is not None and found.to_json() == Moments.of(went).to_json()
    fresh = ALGORITHMS["QMIX"].experience(made, spaces, CPU)
    assert isinstance(fresh, Replay) and fresh.observed is not None


def test_images_in_a_state_stay_as_they_are() -> None:
    for name, spaces in (("MAPPO", ALIKE), ("QMIX", ALIKE)):
        made = configured({"name": name, "normalize_observations": True}, {"hidden_size": [6]})
        m = rounds.member(0, made, replace(spaces, state=IMAGE))
        assert {key for key, n in m.networks.items() if n.observed is not None} == {"actor/a"}


@pytest.mark.parametrize("name", ["MAPPO", "QMIX"])
def test_statistics_of_a_state_of_other_sizes_begin_anew(name: str) -> None:
    made = configured({"name": name, "normalize_observations": True}, {"hidden_size": [6]})
    small, large = rounds.stated(ALIKE, "float32"), replace(ALIKE, state=Box("float32", (5,), (-1.0,) * 5, (1.0,) * 5))
    there, here = rounds.member(0, made, small), rounds.member(1, made, large)
    known([there])
    source = WarmStart("member 0", {key: n.params for key, n in there.networks.items()}, there.networks, small)
    source.check(large)
    told = source.fill(here.networks)
    critic = next(key for key in here.networks if not key.startswith("actor"))
    assert len(told) == 1 and told[0].startswith(f"{critic} has ")
    observed = here.networks[critic].observed
    assert observed is not None and (observed.count, len(observed.mean)) == (0, 5)
    assert here.networks["actor/a"].observed is there.networks["actor/a"].observed
    again = rounds.member(2, made, small)
    assert not source.fill(again.networks)
    assert again.networks[critic].observed is there.networks[critic].observed


def test_who_reads_the_state_is_said() -> None:
    spaces = replace(ALIKE, state=IMAGE)
    said = {}
    for name in ("IPPO", "MAPPO", "MADDPG", "MATD3", "VDN", "QMIX"):
        made = configured({"name": name}, {"hidden_size": [6]})
        said[name] = ALGORITHMS[name].state_sentence(made, spaces)
        assert ALGORITHMS[name].state_sentence(made, ALIKE) is None
    for name in ("IPPO", "MADDPG", "MATD3", "VDN"):
        assert said[name] is not None and f"no network of {name} reads the state" in str(said[name])
    assert said["MAPPO"] == (
        "environment.state: the critic networks of MAPPO read it as 162 numbers, its image flattened"
    )
    assert "the mixer networks of QMIX read it as 162 numbers" in str(said["QMIX"])
