"""Who plays in evaluation episodes, and what a member's score is where opponents play."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from covey.config import Fitness
from covey.v1.fragment_pb2 import Episode
from covey.v1.order_pb2 import PolicyRef
from covey_server.evolution.fitness import Played, fitness_of, score_of
from covey_server.evolution.line_ups import EliteBefore, LineUp, by_sides, with_opponents
from covey_server.orders.evaluations import Evaluations

AGENTS = ("player_1", "player_2")
RANDOM = PolicyRef(builtin="random")


def refs_of(member: int) -> list[PolicyRef]:
    return [PolicyRef(sha256=bytes([member, agent] * 16), member_id=member) for agent in range(2)]


def players(opponents: dict[str, str | int], living: set[int], champion: int | None) -> list[PolicyRef]:
    return with_opponents(5, AGENTS, opponents, living, champion, refs_of)


def test_members_play_all_agents_without_opponents() -> None:
    assert players({}, {5, 6}, None) == refs_of(5)


def test_opponents_play_their_agents() -> None:
    assert players({"player_2": "random"}, {5, 6}, None) == [refs_of(5)[0], PolicyRef(builtin="random")]
    assert players({"player_1": 6}, {5, 6}, 5) == [refs_of(6)[0], refs_of(5)[1]]


def test_an_opponent_that_died_is_followed_by_the_best() -> None:
    assert players({"player_2": 0}, {5, 6, 7}, 7) == [refs_of(5)[0], refs_of(7)[1]]
    assert players({"player_2": 0}, {5, 6}, None) == refs_of(5)
    assert players({"player_2": 0}, {0, 5}, 5) == [refs_of(5)[0], refs_of(0)[1]]


def test_an_episode_against_random_is_entered() -> None:
    evaluations = Evaluations()
    request = evaluations.request(5, "fitness", {9: players({"player_2": "random"}, {5}, None)}, 100)
    ((task, refs),) = evaluations.take(("actor", 1), 4)
    assert [ref.builtin for ref in refs] == ["", "random"]
    played = bytes([5, 0] * 8) + bytes(16)
    assert evaluations.result(("actor", 1), Episode(task_id=task.task_id, seed=9, policies=played[:16])) == "wrong"
    episode = Episode(task_id=task.task_id, seed=9, policies=played, returns=[1.0, -1.0])
    assert evaluations.result(("actor", 1), episode) == "counts"
    assert evaluations.pop_finished() is request and request.results == {9: [1.0, -1.0]}


def elite(agents: int = 2) -> EliteBefore:
    return EliteBefore("the elite of generation 3", [PolicyRef(sha256=bytes([9, a] * 16)) for a in range(agents)])


def test_the_elite_before_plays_its_agents_or_the_member_itself() -> None:
    refs = with_opponents(5, AGENTS, {"player_2": "elite"}, {5}, None, refs_of, elite())
    assert refs == [refs_of(5)[0], elite().policies[1]]
    assert with_opponents(5, AGENTS, {"player_2": "elite"}, {5}, None, refs_of) == refs_of(5)


def test_each_side_is_played_against_random_and_the_elite() -> None:
    own = refs_of(5)
    alone = by_sides(own, [{0}, {1}], {0, 1}, None)
    assert [(list(line_up.policies), set(line_up.counted), line_up.against) for line_up in alone] == [
        ([own[0], RANDOM], {0}, "random"),
        ([RANDOM, own[1]], {1}, "random"),
    ]
    both = by_sides(own, [{0}, {1}], {0, 1}, elite())
    assert both[:2] == alone
    assert [(list(line_up.policies), line_up.by_sides) for line_up in both[2:]] == [
        ([own[0], elite().policies[1]], True),
        ([elite().policies[0], own[1]], True),
    ]


def test_partners_are_played_together() -> None:
    own = [PolicyRef(sha256=bytes([a] * 32)) for a in range(4)]
    first, second = by_sides(own, [{0, 2}, {1, 3}], range(4), None)
    assert list(first.policies) == [own[0], RANDOM, own[2], RANDOM]
    assert list(second.policies) == [RANDOM, own[1], RANDOM, own[3]]


def test_one_side_alone_is_played_where_it_alone_counts() -> None:
    (only,) = by_sides(refs_of(5), [{0}, {1}], {1}, None)
    assert list(only.policies) == [RANDOM, refs_of(5)[1]]
    own = [PolicyRef(sha256=bytes([a] * 32)) for a in range(4)]
    (both,) = by_sides(own, [{0, 2}, {1, 3}], {1}, None)
    assert list(both.policies) == [RANDOM, own[1], RANDOM, own[3]], "its partner is the member's own"
    assert set(both.counted) == {1}


def played(*episodes: tuple[Sequence[float], set[int], str]) -> list[Played]:
    return [Played(returns, LineUp([], counted, who, by_sides=bool(who))) for returns, counted, who in episodes]


GAME = played(
    ([1.0, -1.0], {0}, "random"),
    ([1.0, -1.0], {1}, "random"),
    ([0.5, -0.5], {0}, "the elite of generation 3"),
    ([-1.0, 1.0], {1}, "the elite of generation 3"),
)


def test_a_score_counts_the_agents_that_the_member_played() -> None:
    score = score_of(GAME, AGENTS, Fitness())
    assert score.fitness == pytest.approx((1 - 1 + 0.5 + 1) / 4)
    assert score.per_agent == {"player_1": 0.75, "player_2": 0.0}
    assert score.against == {"random": 0.0, "the elite of generation 3": 0.75} and score.as_elite == 0.0
    assert score.versus == ", 0.00 against random, 0.75 against the elite of generation 3"
    assert not score.cancels, "a member's own returns do not cancel where it plays one side"
    assert score_of(GAME[::-1], AGENTS, Fitness()).versus == score.versus, "in whatever order episodes are entered"


def test_a_later_fitness_is_compared_with_what_this_policy_would_get_then() -> None:
    """It won 0.8 against random: against random and itself it would get 0.4, so 0.5 against both is better than it."""
    first = score_of(played(([1.0, -1.0], {0}, "random"), ([-0.6, 0.6], {1}, "random")), AGENTS, Fitness())
    assert first.fitness == pytest.approx(0.8) and first.as_elite == pytest.approx(0.4)


ATTACK = played(([3.0, -1.0, -1.0, -1.0], {0}, "random"), ([3.0, -1.0, -1.0, -1.0], {1, 2, 3}, "random"))
PAIRS = played(([2.0, -2.0, 2.0, -2.0], {0, 2}, "random"), ([2.0, -2.0, 2.0, -2.0], {1, 3}, "random"))


@pytest.mark.parametrize(
    ("episodes", "ids", "config", "as_elite"),
    [
        (ATTACK, tuple("abcd"), Fitness(), 0.0),
        (ATTACK, tuple("abcd"), Fitness(reduce="mean"), None),  # against itself it gets (3 - 1) / 2
        (PAIRS, tuple("abcd"), Fitness(reduce="mean"), 0.0),
        (played(([1.0, -1.0], {0}, "random")), AGENTS, Fitness(agents=["player_1"]), None),
        (played(([1.0, -1.0], {1}, "random")), AGENTS, Fitness(agents=["player_2"], reduce="mean"), None),
        (played(([2.0, -2.0, 0.0, 0.0], {0, 2}, "random")), tuple("abcd"), Fitness(agents=["a", "c"]), None),
    ],
)
def test_what_it_gets_against_itself_is_said_only_where_that_is_known(
    episodes: list[Played], ids: Sequence[str], config: Fitness, as_elite: float | None
) -> None:
    assert score_of(episodes, ids, config).as_elite == as_elite


def test_a_side_of_two_is_summed_or_averaged() -> None:
    episodes = played(([2.0, -1.0, 2.0, -3.0], {0, 2}, "random"))
    ids = ("a", "b", "c", "d")
    assert score_of(episodes, ids, Fitness()).fitness == 4.0
    assert score_of(episodes, ids, Fitness(reduce="mean")).fitness == 2.0


def test_without_opponents_a_score_is_that_of_the_returns() -> None:
    returns = [[1.0, 2.0], [3.0, 4.0]]
    plain = score_of(played(*((r, {0, 1}, "") for r in returns)), AGENTS, Fitness())
    assert plain == fitness_of(returns, AGENTS, Fitness()) and not plain.against and plain.as_elite is None


def test_episodes_of_several_line_ups_are_tasks_of_their_own() -> None:
    evaluations = Evaluations()
    own = refs_of(5)
    line_ups = by_sides(own, [{0}, {1}], {0, 1}, None)
    seats = {seed: line_ups[seed % 2].policies for seed in range(5)}
    request = evaluations.request(5, "fitness", seats, 100)
    tasks = evaluations.take(("actor", 1), 5)
    assert [(list(task.seeds), list(refs)) for task, refs in tasks] == [
        ([0, 2, 4], [own[0], RANDOM]),
        ([1, 3], [RANDOM, own[1]]),
    ]
    assert set(evaluations.named_policies()) == {own[0].sha256, own[1].sha256, b""}
    for task, refs in tasks:
        for seed in task.seeds:
            policies = b"".join(ref.sha256[:16] or bytes(16) for ref in refs)
            swapped = policies[16:] + policies[:16]
            wrong = Episode(task_id=task.task_id, seed=seed, policies=swapped, returns=[1.0, -1.0])
            assert evaluations.result(("actor", 1), wrong) == "wrong", "played on the other side"
            episode = Episode(task_id=task.task_id, seed=seed, policies=policies, returns=[1.0, -1.0])
            assert evaluations.result(("actor", 1), episode) == "counts"
    assert evaluations.pop_finished() is request
