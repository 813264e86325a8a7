"""A population member hands out its hyperparameters only as its own algorithm's record."""

import pytest
from tests.support.members import make_member

from covey.config import OffPolicyHyperparameters, OnPolicyHyperparameters


def test_a_member_gives_its_hyperparameters_only_as_its_algorithms_record() -> None:
    member = make_member(3)
    assert member.own(OffPolicyHyperparameters) is member.hyperparameters
    with pytest.raises(TypeError, match="member 3 has OffPolicyHyperparameters, expected OnPolicyHyperparameters"):
        member.own(OnPolicyHyperparameters)
