"""From an evaluated population to the next one: who stays, who is born, and what carries on."""

from typing import Any

import numpy as np
import pytest
from tests.support.members import assert_same_networks, make_member

from covey.config import Config, OffPolicyHyperparameters, parse_config
from covey_server.evolution.generation import copied, initial_population, next_generation
from covey_server.evolution.tournament import TournamentSelection
from covey_server.member import Member, Network

ONLY_NONE = {"no_mut": 1, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}


def configured(**sections: dict[str, Any]) -> Config:
    return parse_config(
        {"algorithm": {"name": "MATD3"}, "environment": {"name": "mpe2.simple_v3"}, "training": {}, **sections}
    )


def build(rng: np.random.Generator) -> dict[str, Network]:
    return {name: Network.fresh(n.spec, rng) for name, n in make_member().networks.items()}


def first(config: Config, seed: int = 0) -> list[Member]:
    return initial_population(config, build, np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2]))


def after(
    members: list[Member], config: Config, seed: int = 0, next_member_id: int = 100, generation: int = 1
) -> list[Member]:
    streams = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    return next_generation(members, config, *streams, next_member_id, generation)


def evaluated(*fitness: float | None) -> list[Member]:
    members = [make_member(i) for i in range(len(fitness))]
    for member, value in zip(members, fitness, strict=True):
        member.fitness = value
    return members


def test_the_first_population_has_weights_of_its_own_and_is_mutated_once() -> None:
    members = first(configured(training={"pop_size": 5}))
    assert [m.member_id for m in members] == [0, 1, 2, 3, 4]
    assert all(m.parent_id is None and m.generation == 0 and m.mutation not in ("initial", "none") for m in members)
    one, other = (m.networks["actor/speaker"].params["head.out.bias"] for m in members[:2])
    assert not np.array_equal(one, other)


def test_hyperparameters_are_each_members_own() -> None:
    """From one common value, one mutation each moves each member by one factor, not by all before it."""
    config = configured(
        training={"pop_size": 6},
        mutation={
            "probabilities": {"no_mut": 0, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 1},
            "rl_hp_selection": {"lr_actor": {"min": 1e-6, "max": 1}},
        },
    )
    members = first(config)
    assert {round(m.own(OffPolicyHyperparameters).lr_actor, 9) for m in members} == {0.0012, 0.0008}
    children = after([m for m in members], config)
    children[0].hyperparameters = children[0].hyperparameters.changed(lr_actor=0.5)
    assert all(m.own(OffPolicyHyperparameters).lr_actor != 0.5 for m in (*members, *children[1:]))


@pytest.mark.parametrize(
    "config",
    [
        configured(training={"pop_size": 3}, mutation={"pre_training": False}),
        configured(training={"pop_size": 1}),
        configured(
            training={"pop_size": 3},
            mutation={"probabilities": ONLY_NONE},
        ),
    ],
    ids=["switched off", "population of one", "no kind has weight"],
)
def test_the_first_population_can_stay_unmutated(config: Config) -> None:
    members = first(config)
    assert all(m.mutation == "initial" and m.change == "" for m in members)
    assert all(m.hyperparameters == config.algorithm.initial_hyperparameters() for m in members)
    assert len(members) == config.training.pop_size


def test_members_of_the_first_population_can_begin_anywhere_in_their_ranges() -> None:
    selection = {"lr_actor": {"min": 1e-4, "max": 1e-2}, "batch_size": {"min": 8, "max": 512}}
    drawn = {"rl_hp_selection": selection, "draw_initial_rl_hp": True, "pre_training": False}
    members = first(configured(training={"pop_size": 8}, mutation=drawn))
    values = [m.hyperparameters.numbers() for m in members]
    assert all(1e-4 <= v["lr_actor"] <= 1e-2 and 8 <= v["batch_size"] <= 512 for v in values)
    assert len({v["lr_actor"] for v in values}) == 8 and len({v["batch_size"] for v in values}) > 4
    assert len({v["lr_critic"] for v in values}) == 1, "it has no range"
    assert all(m.mutation == "initial" and m.change.startswith("lr_actor 0.00") for m in members)
    # The same weights and the same values follow from the same seed, and one member alone draws too.
    again = first(configured(training={"pop_size": 8}, mutation=drawn))
    assert [m.hyperparameters for m in again] == [m.hyperparameters for m in members]
    (alone,) = first(configured(training={"pop_size": 1}, mutation=drawn))
    assert alone.hyperparameters == members[0].hyperparameters


def test_members_that_draw_can_be_mutated_before_training_too() -> None:
    only_hp = {"no_mut": 0, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 1}
    mutation = {"draw_initial_rl_hp": True, "rl_hp_selection": {"tau": {"min": 0.001, "max": 0.1}}}
    for member in first(configured(training={"pop_size": 3}, mutation=mutation | {"probabilities": only_hp})):
        assert member.mutation == "rl_hp"
        assert member.change.startswith("tau ") and " -> " in member.change and member.change.endswith(" drawn")


def test_the_elite_goes_on_as_it_was() -> None:
    members = evaluated(-3.0, -1.0, -2.0, -4.0)
    for seed in range(10):
        population = after(members, configured(), seed)
        elite = population[0]
        assert elite.member_id == 1 and elite.parent_id is None and elite.generation == 0
        assert (elite.fitness, elite.fitness_stderr) == (-1.0, 0.5)
        assert (elite.env_steps, elite.updates, elite.unpaid_steps) == (1000, 200, 13)
        assert elite.mutation == "elite" and elite.hyperparameters == members[1].hyperparameters
        assert_same_networks(elite, members[1])


def test_children_carry_their_parents_ledger_and_get_fresh_ids() -> None:
    config = configured(mutation={"probabilities": ONLY_NONE})
    members = evaluated(-3.0, -1.0, -2.0, -4.0)
    for m in members:
        m.env_steps, m.updates, m.unpaid_steps = 1000 + m.member_id, 200 + m.member_id, m.member_id
    population = after(members, config, next_member_id=17, generation=6)
    assert [m.member_id for m in population] == [1, 17, 18, 19]
    for child in population[1:]:
        assert child.parent_id is not None
        parent = members[child.parent_id]
        assert (child.env_steps, child.updates, child.unpaid_steps) == (
            parent.env_steps,
            parent.updates,
            parent.unpaid_steps,
        )
        assert child.generation == 6 and child.mutation == "none" and child.change == ""
        assert child.fitness is None and child.fitness_stderr is None
        assert_same_networks(child, parent)


def test_children_and_elite_share_no_memory_with_the_evaluated_population() -> None:
    config = configured(mutation={"probabilities": ONLY_NONE})
    members = evaluated(-1.0, -2.0, -3.0)
    population = after(members, config)
    before = [copied(m) for m in members]
    for member in population:
        for network in member.networks.values():
            assert network.target is not None
            for numbers in (network.params, network.target, network.first_moment, network.second_moment):
                for array in numbers.values():
                    array += member.member_id + 1
    for member, old in zip(members, before, strict=True):
        assert member.hyperparameters == old.hyperparameters
        assert_same_networks(member, old)
    weights = [m.networks["actor/speaker"].params["head.out.bias"] for m in population]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_the_evaluated_population_is_not_mutated() -> None:
    members = evaluated(-1.0, -2.0, -3.0, -4.0)
    before = [copied(m) for m in members]
    config = configured(mutation={"probabilities": {"no_mut": 0, "act_mut": 1}, "mutate_elite": True})
    for seed in range(10):
        after(members, config, seed)
    for member, old in zip(members, before, strict=True):
        assert_same_networks(member, old)
        assert (member.mutation, member.hyperparameters, member.unpaid_steps) == (
            old.mutation,
            old.hyperparameters,
            old.unpaid_steps,
        )


def test_parents_are_those_that_the_tournament_chose() -> None:
    members = evaluated(-3.0, -1.0, -2.0, -4.0, -2.5)
    for seed in range(10):
        chosen = TournamentSelection(tournament_size=2, elitism=True, population_size=5).select(
            [m.fitness for m in members], np.random.default_rng([seed, 1])
        )
        population = after(members, configured(), seed)
        assert [m.parent_id for m in population[1:]] == [members[i].member_id for i in chosen.parents[1:]]


def test_a_mutated_elite_is_a_child_of_the_best() -> None:
    config = configured(mutation={"mutate_elite": True, "probabilities": {"no_mut": 0, "params_mut": 1}})
    population = after(evaluated(-3.0, -1.0, -2.0), config)
    assert population[0].member_id == 100 and population[0].parent_id == 1
    assert population[0].mutation != "elite" and len(population) == 3


def test_without_elitism_nobody_survives_as_such() -> None:
    population = after(evaluated(-3.0, -1.0, -2.0), configured(selection_strategy={"elitism": False}))
    assert [m.member_id for m in population] == [100, 101, 102]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_who_has_no_fitness_is_neither_elite_nor_preferred(missing: float | None) -> None:
    config = configured(selection_strategy={"tournament_size": 40})
    population = after(evaluated(missing, -900.0, missing), config)
    assert population[0].member_id == 1 and [m.parent_id for m in population[1:]] == [1, 1]


def test_a_population_of_one_keeps_its_member() -> None:
    (only,) = after(evaluated(-3.0), configured())
    assert only.member_id == 0


def test_generations_follow_from_the_streams() -> None:
    def history(seed: int) -> list[Member]:
        config = configured(training={"pop_size": 4})
        members = first(config, seed)
        for generation in range(1, 6):
            for k, member in enumerate(members):
                member.fitness = float(k)
            members = after(members, config, seed, 100 * generation, generation)
        return members

    one, same, other = history(3), history(3), history(4)
    for a, b in zip(one, same, strict=True):
        assert_same_networks(a, b)
        assert (a.member_id, a.parent_id, a.mutation, a.change, a.hyperparameters) == (
            b.member_id,
            b.parent_id,
            b.mutation,
            b.change,
            b.hyperparameters,
        )
    assert [m.change for m in one] != [m.change for m in other]
