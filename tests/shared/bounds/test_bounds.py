"""What a run takes of memory is computed by the numbers with which it is allocated, and refused with remedies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.support import replays

from covey.bounds.experience import planned_replay, replay_row_bytes
from covey.bounds.memory import experience_line
from covey.cli.run_limits import run_limits
from covey.config import Config, parse_config
from covey.errors import ConfigError
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey_server.algorithms import ALGORITHMS
from covey_server.experience.replay import Replay
from covey_server.experience.replay_layout import RowLayout

IMAGE = Box("uint8", (84, 84, 3), (0,) * 21168, (255,) * 21168)
PISTONS = EnvironmentSpaces.build(
    [AgentSpec(f"piston_{i}", IMAGE, Box("float32", (1,), (-1.0,), (1.0,))) for i in range(20)]
)
CROWD = EnvironmentSpaces.build([AgentSpec(f"a_{i}", replays.box(16), Discrete(5)) for i in range(200)])
ALL = {
    "boxes": replays.BOXES,
    "mixed kinds": replays.MIXED,
    "turns": replays.SEEN,
    "images": PISTONS,
}
FLAT = {"encoder_config": {"kind": "mlp"}}


def config(name: str = "MATD3", **sections: Any) -> Config:
    algorithm = {"name": name, **sections.pop("algorithm", {})}
    return parse_config({"algorithm": algorithm, "environment": {"name": "none"}, "training": {}, **sections})


@pytest.mark.parametrize("kind", ALL)
def test_a_row_takes_in_replay_what_is_computed_without_torch(kind: str) -> None:
    spaces = ALL[kind]
    assert replay_row_bytes(spaces) == RowLayout(spaces, torch.device("cpu")).row_bytes
    run = config(replay_buffer={"max_size": 100, "max_bytes": 1 << 26})
    memory = run.replay_buffer
    planned = planned_replay(run, spaces)
    replay = Replay(spaces, memory.max_size, memory.max_bytes)
    taken = sum(m.numel() * m.element_size() for m in (*replay._matrices.values(), replay._drawable_rows))
    links = 8 * len(spaces.agents) * planned.rows  # made when the first agent waits
    assert taken + links == planned.bytes <= memory.max_bytes


@pytest.mark.parametrize(
    ("name", "spaces", "sections", "remedies"),
    [
        (
            "MATD3",
            PISTONS,
            {"network": FLAT},
            ("algorithm.share_parameters: true", "replay_buffer.max_size", "training.pop_size"),
        ),
        ("MADDPG", CROWD, {}, ("algorithm.share_parameters: true",)),
        ("IPPO", PISTONS, {"algorithm": {"learn_step": 100_000}}, ("algorithm.learn_step", "training.pop_size")),
        ("MATD3", replays.BOXES, {"learner": {"max_memory_bytes": 1 << 20}}, ("learner.max_memory_bytes",)),
    ],
)
def test_a_run_that_is_too_large_is_refused_with_what_makes_it_fit(
    name: str, spaces: EnvironmentSpaces, sections: dict[str, Any], remedies: tuple[str, ...]
) -> None:
    run = config(name, **sections)
    with pytest.raises(ConfigError) as refused:
        ALGORITHMS[name].checked_specs(run, spaces)
    assert all(remedy in str(refused.value) for remedy in remedies), refused.value
    # What is named does make it fit, and check-env says so.
    if remedies[0].startswith("algorithm.share"):
        shared = config(name, algorithm={"share_parameters": True}, **sections)
        specs = ALGORITHMS[name].checked_specs(shared, spaces)
        assert f"{sum(s.numbers for s in specs.values()):,} parameters a member" in str(refused.value)
        limits = run_limits(spaces, "none", run)
        told = limits.will + limits.cannot
        assert any(s.startswith(f"{name} with algorithm.share_parameters: true: the learner takes") for s in told), told
    else:
        assert "share_parameters" not in str(refused.value)


def test_a_replay_memory_that_holds_fewer_steps_says_so() -> None:
    runs = config(), config(replay_buffer={"max_size": 1000})
    fewer, all_of_them = (experience_line(run, PISTONS) for run in runs)
    assert "replay holds 18,017 env steps of the 100,000 of replay_buffer.max_size" in fewer
    assert "replay holds 1,000 env steps, in" in all_of_them
    run = config("IPPO")
    assert f"a round of {run.algorithm.learn_step:,} env steps" in experience_line(run, PISTONS)
