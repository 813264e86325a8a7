"""What runs of several modules share."""

from collections.abc import Iterator

import pytest
from tests.support.probes.trainers import Trainers


@pytest.fixture(scope="session")
def trainers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainers]:
    """Processes that stay, for runs so short that starting would be most of them."""
    with Trainers(tmp_path_factory.mktemp("trainers")) as trainers:
        yield trainers
