"""How many threads an update gets."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from covey.config import Config, parse_config
from covey_server.app import update_threads


def config(**training: Any) -> Config:
    return parse_config(
        {"algorithm": {"name": "MADDPG"}, "environment": {"name": "none"}, "training": training, "learner": {}}
    )


@pytest.mark.parametrize(
    ("cores", "actors", "own", "threads"), [(16, 4, 16, 11), (16, 4, 8, 8), (2, 2, 2, 1), (1, 0, 1, 1)]
)
def test_an_update_gets_what_actors_and_the_wire_leave(
    cores: int, actors: int, own: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: own)
    assert update_threads(config(), actors) == threads
    assert update_threads(config(deterministic=True), actors) == 1


def test_a_number_that_is_configured_holds() -> None:
    made = config(deterministic=True)
    made = made.model_copy(update={"learner": made.learner.model_copy(update={"torch_threads": 7})})
    assert update_threads(made, 0) == 7
