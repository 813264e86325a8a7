"""Members that diverge: told, replaced, and the end of a run only if all have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpe2 import simple_speaker_listener_v4
from tests.support.members import make_member

from covey.config import Config, parse_config
from covey.envs.vector import make_multi_agent_vect_envs
from covey.errors import DivergedError
from covey.run.directory import RunDirectory
from covey.run.trained import TrainedMember
from covey_server import MultiAgentReplayBuffer, Mutations, TournamentSelection, create_population
from covey_server import train_multi_agent_off_policy as train
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.evolution.generation import next_generation
from covey_server.evolution.succession import successor
from covey_server.member import Member

NAN = float("nan")
SEEDS = np.random.default_rng(1), np.random.default_rng(2)


def config(**sections: Any) -> Config:
    base = {"algorithm": {"name": "MATD3"}, "environment": {"name": "none"}, "training": {"pop_size": 3}}
    return parse_config({**base, **sections})


def spoiled(member: Member, key: str, kind: str, value: float) -> Member:
    params = getattr(member.networks[key], kind)
    next(iter(params.values())).flat[0] = value
    return member


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("actor/speaker", "params", NAN),
        ("critic_1/listener", "params", float("inf")),
        ("actor/listener", "target", NAN),
        ("critic_2/speaker", "second_moment", float("inf")),
    ],
)
def test_who_has_diverged_has_no_children_however_fit(key: str, kind: str, value: float) -> None:
    members = [make_member(i) for i in range(3)]
    assert not any(m.diverged for m in members)
    members[0].fitness = 1e9
    spoiled(members[0], key, kind, value)
    assert members[0].diverged
    for seed in range(5):
        draws = np.random.default_rng(seed), np.random.default_rng(seed)
        population = next_generation(members, config(), *draws, 10, 1)
        assert not any(m.diverged or m.parent_id == 0 or m.member_id == 0 for m in population)
        child = successor(members[0], members, config(), *draws, 10, 1)
        assert child is not None and child.parent_id in (1, 2) and not child.diverged


def test_without_any_finite_member_the_error_names_hyperparameters() -> None:
    members = [spoiled(make_member(i), "actor/speaker", "params", NAN) for i in range(3)]
    with pytest.raises(DivergedError, match=r"all 3 members have diverged.*lr_actor 0.001"):
        next_generation(members, config(), *SEEDS, 10, 1)
    with pytest.raises(DivergedError):
        successor(members[0], members, config(), *SEEDS, 10, 1)


def poison(monkeypatch: pytest.MonkeyPatch, *member_ids: int) -> None:
    """Policies of these members become NaN in their third update, as too large steps would make them."""
    update = OffPolicy.update

    def poisoned(self: OffPolicy, due: Any, experience: Any) -> None:
        update(self, due, experience)
        for pack in self._actors.packs:
            for row, (_, m) in enumerate(pack.rows):
                if self._members[m].member_id in member_ids and self._members[m].updates >= 3:
                    pack.params[row] = NAN

    monkeypatch.setattr(OffPolicy, "update", poisoned)


def trained(folder: Any) -> Any:
    env = make_multi_agent_vect_envs(simple_speaker_listener_v4.parallel_env, 2, continuous_actions=True)
    net = {"latent_dim": 8, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [16]}}
    pop = create_population(
        "MADDPG",
        [env.single_observation_space(a) for a in env.agents],
        [env.single_action_space(a) for a in env.agents],
        net,
        {"AGENT_IDS": env.agents, "BATCH_SIZE": 16, "LEARN_STEP": 10},
        population_size=3,
        num_envs=2,
    )
    return train(
        env,
        "speaker_listener",
        "MADDPG",
        pop,
        MultiAgentReplayBuffer(1000),
        max_steps=200,
        evo_steps=100,
        eval_steps=10,
        tournament=TournamentSelection(2, True, 3),
        mutation=Mutations(1, 0, 0, 0, 0, 0),
        checkpoint=50,
        checkpoint_path=str(folder),
        verbose=False,
    )


def test_a_diverged_member_is_told_kept_and_replaced(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="covey.learner")
    poison(monkeypatch, 1)
    pop, _ = trained(tmp_path)
    said = [r.getMessage() for r in caplog.records]
    assert sum("member 1 (" in text and "has diverged" in text and "lr_actor" in text for text in said) == 1
    assert 1 not in [agent.index for agent in pop]
    assert not any(agent.member.diverged for agent in pop)
    (run,) = tmp_path.iterdir()
    kept = list((RunDirectory(run).diverged / "member_1").iterdir())
    assert {p.name for p in kept} == {"speaker_0.safetensors", "listener_0.safetensors"}
    elites = [TrainedMember.elite(RunDirectory(run), g) for g in RunDirectory(run).elite_generations()]
    assert [elite.generation for elite in elites] == [0, 1] and elites[0].member_id in (0, 2)


def test_if_all_diverge_the_run_ends_with_that_sentence(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, *range(20))
    with pytest.raises(DivergedError, match="all 3 members have diverged"):
        trained(tmp_path)
