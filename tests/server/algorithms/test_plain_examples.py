"""An update of examples/plain_*.py as they stand, with their own hyperparameters, against the packed one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tests.support.double_precision import DoubleReplay, learner_in_double
from tests.support.plain_examples import ippo, matd3
from tests.support.plain_ippo import Policy
from tests.support.plain_off_policy import Plain, PlainCritic
from tests.support.rounds import box, gathered
from torch import Tensor

from covey.config import Config, parse_config
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.algorithms import ALGORITHMS, build_networks, initial_hyperparameters
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.experience.replay import Replay
from covey_server.member import Member
from covey_server.packing import counter_rng

SEED = 3
SPACES = EnvironmentSpaces.build([AgentSpec("speaker_0", box(3), box(2)), AgentSpec("listener_0", box(5), box(3))])
WIDTHS = {"o": [3, 5], "a": [2, 3]}


def made(name: str, **settings: Any) -> Config:
    return parse_config(
        {
            "algorithm": {"name": name, "share_parameters": False, **settings},
            "environment": {"name": "none"},
            "network": {"latent_dim": 6, "encoder_config": {"hidden_size": [7]}, "head_config": {"hidden_size": [8]}},
            "training": {"seed": SEED},
        }
    )


def member_of(config: Config) -> Member:
    networks = build_networks(config, SPACES, np.random.default_rng(0))
    return Member(member_id=4, networks=networks, hyperparameters=initial_hyperparameters(config))


class SplitCritic(PlainCritic):
    """Of the observations of all agents side by side, as the example has them."""

    def forward(self, x: Tensor, a: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.split(x, WIDTHS["o"], -1), a)


def filled() -> Replay:
    """Episodes of four random decisions, which the environment's rules end for the speaker."""
    rng = np.random.default_rng(1)
    replay = DoubleReplay(SPACES, 100, 1 << 20)
    for _ in range(10):
        columns = RowSchema.of(SPACES).empty(5)
        columns["kind"][:] = [RowKind.STEP] * 4 + [RowKind.FINAL]
        for group in ("speaker", "listener"):
            # Rewards are so large that critics' gradients are longer than their bound.
            for name, scale in (("observation", 1), ("reward", 30), ("action", 1)):
                column = columns[f"{group}/{name}"]
                column[:] = scale * rng.uniform(-1, 1, column.shape)
            columns[f"{group}/active"][:] = 1
            columns[f"{group}/{'terminated' if group == 'speaker' else 'truncated'}"][3] = 1
        replay.insert(columns, [SlotStream(rows=5, steps=4)])
    return replay


def test_an_update_of_the_plain_matd3_is_the_packed_one() -> None:
    config = made(
        "MATD3",
        batch_size=64,
        lr_actor=matd3.LEARNING_RATE,
        lr_critic=matd3.LEARNING_RATE,
        gamma=matd3.GAMMA,
        tau=matd3.TAU,
        policy_freq=matd3.POLICY_FREQ,
        actor_loss="joint",
        target_noise=matd3.POLICY_NOISE,
        target_noise_clip=matd3.NOISE_CLIP,
        output_penalty=matd3.OUTPUT_PENALTY,
        max_grad_norm_actor=matd3.MAX_GRAD_NORM_POLICY,
        max_grad_norm_critic=matd3.MAX_GRAD_NORM_CRITIC,
    )
    member, replay, nets = member_of(config), filled(), {}
    for key, network in member.networks.items():
        nets[key] = (Plain if key.startswith("actor") else SplitCritic)(network).double()
    agents = [
        matd3.Agent(nets[f"actor/{i}"], [nets[f"critic_{k}/{i}"] for k in (1, 2)]) for i in ("speaker_0", "listener_0")
    ]
    learner = ALGORITHMS["MATD3"](config, SPACES, [member])
    assert isinstance(learner, OffPolicy)
    learner_in_double(learner)
    for updates in range(6):
        keys = counter_rng.keys(SEED, [4], [updates])
        batch = replay.sample(keys, torch.tensor([64]), 64)
        o, next_o = ([x[0] for x in by_group] for by_group in (batch.observation, batch.next_observation))
        r, d = (list(torch.split(x[0], 1, -1)) for x in (batch.reward, batch.terminated))
        a = list(torch.split(batch.action[0], WIDTHS["a"], -1))
        noise = counter_rng.normal(keys, "target_noise", 64 * 5).view(64, 5)
        assert d[0].any() and not d[1].any() and (matd3.POLICY_NOISE * noise).abs().max() > matd3.NOISE_CLIP
        matd3.update(agents, (o, a, r, d, next_o), noise, (updates + 1) % matd3.POLICY_FREQ == 0)
        learner.update([0], replay)
    learner.unpack()
    for i, agent in zip(("speaker_0", "listener_0"), agents, strict=True):
        pairs = [("actor", agent.policy, agent.target_policy)]
        pairs += [(f"critic_{k + 1}", agent.critics[k], agent.target_critics[k]) for k in (0, 1)]
        for role, mine, target in pairs:
            packed = member.networks[f"{role}/{i}"]
            assert packed.target is not None
            for name, p in packed.params.items():
                np.testing.assert_allclose(p, mine[name].detach(), rtol=0, atol=1e-7, err_msg=f"{role}/{i} {name}")
                np.testing.assert_allclose(packed.target[name], target[name].detach(), rtol=0, atol=1e-7)


def test_an_update_of_the_plain_ippo_is_the_packed_one() -> None:
    config = made(
        "IPPO",
        lr=ippo.LEARNING_RATE,
        gamma=ippo.GAMMA,
        gae_lambda=ippo.GAE_LAMBDA,
        batch_size=ippo.BATCH_SIZE,
        update_epochs=ippo.UPDATE_EPOCHS,
        clip_coef=ippo.CLIP_COEF,
        ent_coef=ippo.ENT_COEF,
        vf_coef=ippo.VF_COEF,
        max_grad_norm=ippo.MAX_GRAD_NORM,
        action_std_init=ippo.LOG_STD,
    )
    member = member_of(config)
    agents = []
    for a in SPACES.agents:
        policy = Policy(member.networks[f"actor/{a.agent_id}"], a.action)
        agents.append(ippo.Agent(policy, Plain(member.networks[f"critic/{a.agent_id}"])))
    learner = ALGORITHMS["IPPO"](config, SPACES, [member])
    for seed in range(3):
        for agent, d in zip(agents, gathered(SPACES, 4, 22, seed).take(4).agents, strict=True):
            # Actions' bounds are [-1, 1] already, and every decision takes one step.
            view, here, after = torch.from_numpy(d.view), d.here, d.after
            numbers = [torch.from_numpy(np.asarray(x, np.float32)) for x in (d.reward, d.terminated, ~d.continues)]
            ippo.update(agent, [view[here], torch.from_numpy(d.action), *numbers, view[after]])
        learner.update([0], gathered(SPACES, 4, 22, seed))
    learner.unpack()
    for i, agent in zip(SPACES.agent_ids, agents, strict=True):
        for role, mine in (("actor", agent.policy), ("critic", agent.value)):
            for name, p in member.networks[f"{role}/{i}"].params.items():
                np.testing.assert_allclose(p, mine[name].detach(), rtol=1e-3, atol=1e-4, err_msg=f"{role}/{i} {name}")
