"""What the learner believes actors did, against actors: log-probabilities on rows of the real collector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.support.asynchronous_play import RhythmsEnv
from tests.support.rounds import config, member
from torch import Tensor

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.envs import SyncSlots, read_spaces
from covey.networks import NumpyOps
from covey.networks.normalisation import MEAN, SCALE, Moments
from covey.observations import ObservationEncoding
from covey.rows import RowSchema
from covey.spaces import AgentSpec, Box, Discrete, action_bounds, choices
from covey.v1.order_pb2 import Exploration, Order
from covey_server.algorithms import learning_group
from covey_server.algorithms.agent_types import padding_groups
from covey_server.algorithms.clipped_losses import policy_loss
from covey_server.algorithms.estimates import Estimates, estimates
from covey_server.algorithms.ippo import IPPO
from covey_server.experience.rollouts import AgentDecisions, Rollouts
from covey_server.ingest.validation import check_fragment
from covey_server.packing.policies import PolicyStore


class Watched:
    """The estimates of a learning phase before its first epoch, and every ratio of probabilities in it, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: list[Estimates] = []
        self.log_ratios: list[Tensor] = []
        of_round, of_loss = estimates, policy_loss

        def noted(*args: Any, **kwargs: Any) -> Estimates:
            self.before.append(of_round(*args, **kwargs))
            return self.before[-1]

        def loss(log_ratio: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
            self.log_ratios.append(log_ratio.detach())
            return of_loss(log_ratio, *args)

        monkeypatch.setattr(learning_group, "estimates", noted)
        monkeypatch.setattr(learning_group, "policy_loss", loss)


def log_prob(agent: AgentSpec, who: LoadedPolicy, d: AgentDecisions, index: int) -> NDArray[Any]:
    """What an actor would say of its decisions: networks in numpy, probabilities in float64."""
    x = ObservationEncoding.of(agent.observation).encode(d.view.reshape(len(d.view), -1))[d.here]
    if who.spec.normalized:
        assert who.spec.normalized == ((0, x.shape[1]),)
        x = np.clip((x - who.params[MEAN]) * who.params[SCALE], np.float32(-10), np.float32(10))
    x = np.concatenate([x, np.tile(np.eye(max(who.spec.indicator, 1), dtype=np.float32)[index], (len(x), 1))], 1)
    y: NDArray[np.float32] = who.spec.network.apply(NumpyOps(), who.params, [x[:, : who.spec.network.inputs[0].width]])
    z, action = y.astype(np.float64), np.asarray(d.action, np.float64).reshape(len(y), -1)
    if isinstance(agent.action, Box):
        std = np.exp(who.params["log_std"].astype(np.float64))
        low, high = action_bounds(agent.action)
        unit = 2 * (action - low) / (high - low) - 1
        each: NDArray[Any] = -0.5 * ((unit - z) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
        summed: NDArray[Any] = each.sum(1)
        return summed
    total, at = np.zeros(len(z)), 0
    start = agent.action.start if isinstance(agent.action, Discrete) else 0
    for i, n in enumerate(choices(agent.action)):
        odds = np.exp(z[:, at : at + n])
        if d.mask is not None:
            odds = np.where(d.mask[:, at : at + n], odds, 0)
        chosen = action[:, i].astype(int) - start
        # What the environment chose may be illegal; it is not compared.
        total += np.log(np.maximum(odds[np.arange(len(z)), chosen] / odds.sum(1), 1e-300))
        at += n
    return total


@pytest.mark.parametrize(("shared", "normalised"), [(True, False), (False, False), (True, True)])
def test_probabilities_of_what_actors_did_are_those_that_the_learner_starts_from(
    shared: bool, normalised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the real collector, of agents that wait, appear, die, have masks and are forced."""
    spaces = read_spaces(RhythmsEnv())
    made = config(
        shared,
        batch_size=16,
        update_epochs=1,
        agent_indicator=True,
        action_std_init=-0.5,
        normalize_observations=normalised,
    )
    m = member(0, made, spaces)
    for key, network in m.networks.items():
        if network.observed is not None:
            network.observed = Moments.of(np.random.default_rng(len(key)).normal(2, 3, (9, len(network.observed.mean))))
    learner = IPPO(made, spaces, [m])
    store = PolicyStore(spaces, made.algorithm)
    store.offer(learner.snapshot())
    store.publish([0])
    refs = store.refs(0)
    policies = {ref.sha256: LoadedPolicy.decode(store.get(ref.sha256) or b"") for ref in refs}
    schema = RowSchema.of(spaces)
    collector = Collector(SyncSlots(RhythmsEnv, spaces, 3), spaces, schema, 3, compression_level=1)
    rollouts = Rollouts(spaces)
    for i in range(4):
        order = Order(order_id=i + 1, noise_seed=i)
        order.policies.extend(refs)
        for slot in range(3):
            work = order.slots.add(slot=slot, member_id=0, steps=17, agent_policies=range(len(refs)), seed=slot)
            work.exploration.kind = Exploration.KIND_SAMPLE
        accepted = check_fragment(collector.run(order, policies), order, schema, spaces, unclipped=True)
        rollouts.insert(0, accepted.columns, accepted.streams, "actor")
    assert rollouts.steps(0) == 4 * 3 * 17
    assert any(policy.spec.normalized for policy in policies.values()) == normalised
    taken = rollouts.take(0)
    monkeypatch.setattr(rollouts, "take", lambda _: taken)
    watched = Watched(monkeypatch)
    learner.update([0], rollouts)
    agents = dict(enumerate(taken.agents))
    found = torch.cat([e.log_prob for e in watched.before]).numpy()
    expected, chose = [], []
    for own in (own for group in padding_groups(spaces, made.algorithm) for own in group):
        for its in own.ids.values():
            for index, agent in enumerate(its):
                who = policies[refs[agent].sha256]
                expected.append(log_prob(spaces.agents[agent], who, agents[agent], index))
                chose.append(~agents[agent].forced)
                assert len(expected[-1]) > 3
    chosen = np.concatenate(chose)
    assert not chosen.all() and len(found) == len(chosen)
    assert np.abs(found - np.concatenate(expected))[chosen].max() < 1e-5
    first = [x for x in watched.log_ratios if float(x.abs().max()) < 1e-5]
    # The first minibatch of each padding group; from the second on, policies have moved.
    assert len(first) == len(padding_groups(spaces, made.algorithm)) < len(watched.log_ratios)
