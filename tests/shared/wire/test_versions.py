"""Tests of `agreed_version`: an actor and a learner take the newest protocol version that both speak, or refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import RefusedError
from covey.wire.versions import SPOKEN, Versions, agreed_version

RANGES = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda ends: Versions(min(ends), max(ends)))


def spoken(versions: Versions) -> set[int]:
    return set(range(versions.oldest, versions.newest + 1))


@given(actor=RANGES, learner=RANGES)
def test_it_is_the_newest_that_both_speak_or_a_sentence_that_names_the_older_side(
    actor: Versions, learner: Versions
) -> None:
    both = spoken(actor) & spoken(learner)
    if both:
        assert agreed_version("describe", actor, learner) == max(both) == min(actor.newest, learner.newest)
        return
    with pytest.raises(RefusedError) as caught:
        agreed_version("describe", actor, learner)
    text = str(caught.value)
    assert f"the actor speaks protocol {actor}, the learner {learner}" in text
    older = "actor" if actor.newest < learner.newest else "learner"
    assert text.endswith(f"install a newer covey on the {older}'s side")


@given(actor=RANGES, learner=RANGES)
def test_both_sides_come_to_the_same_end(actor: Versions, learner: Versions) -> None:
    """The actor is given the learner's answer alone, and takes it for all that the learner speaks."""
    try:
        answer = agreed_version("describe", actor, learner)
    except RefusedError:
        return
    assert agreed_version("learner", actor, Versions(answer, answer)) == answer


@pytest.mark.parametrize(("oldest", "newest"), [(3, 2), (9, 1), (1, 0)])
def test_a_range_that_is_none_is_refused(oldest: int, newest: int) -> None:
    with pytest.raises(RefusedError, match=f"from {oldest} to {newest}, expected the oldest first"):
        agreed_version("describe", Versions(oldest, newest), Versions(1, 3))


def test_what_is_spoken_here_is_a_range_with_the_first_version() -> None:
    assert 1 in SPOKEN and SPOKEN.oldest <= SPOKEN.newest
