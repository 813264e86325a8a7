"""What tests of the actor share."""

from collections.abc import Iterator

import pytest
from tests.support.actor_processes import StartActor, actor_processes
from tests.support.scripted_learner import ScriptedLearner
from tests.support.scripted_orders import POLICIES


@pytest.fixture
def learner() -> Iterator[ScriptedLearner]:
    """A learner that the test drives; it serves the policies of `tests.support.scripted_orders`."""
    scripted = ScriptedLearner()
    scripted.policies = dict(POLICIES)
    yield scripted
    scripted.stop()


@pytest.fixture
def start() -> Iterator[StartActor]:
    """Starts actor processes, which end with the test."""
    with actor_processes() as start:
        yield start
