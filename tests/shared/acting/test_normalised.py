"""Policies with normalised observations: their files, and how they act beside policies without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.shared.acting.test_acting import SAY, SEEN, SPACES, WALK, policy

from covey.acting import LoadedPolicy, PolicyRows
from covey.acting.actions import ActionLayout
from covey.errors import ConfigError, RefusedError
from covey.networks import NumpyOps
from covey.networks.normalisation import MEAN, SCALE
from covey.wire.policy_file import decode_policy, encode_policy

STATISTICS = {MEAN: np.array([3e3, 0, -2, 1e-3], np.float32), SCALE: np.array([1e-3, 1, 2, 1e3], np.float32)}


def normalising(seed: int, **statistics: Any) -> LoadedPolicy:
    own = policy(seed)
    spec = replace(own.spec, normalized=((0, 4),))
    return LoadedPolicy.decode(encode_policy(spec, own.params | STATISTICS | statistics))


def test_a_file_holds_statistics_and_one_without_says_nothing_of_them() -> None:
    plain, own = policy(1), normalising(1)
    assert own.sha256 != plain.sha256 != normalising(1, **{MEAN: np.zeros(4, np.float32)}).sha256
    assert own.spec.normalized == ((0, 4),) and own.spec.to_json()["normalized"] == [[0, 4]]
    assert all(np.array_equal(own.params[name], x) for name, x in STATISTICS.items())
    assert "normalized" not in plain.spec.to_json() and MEAN not in plain.params


@pytest.mark.parametrize("ranges", [((0, 5),), ((2, 1),), ((-1, 2),), ((0, 2), (1, 3)), ((0, 0),) * 999])
def test_parts_that_are_none_of_the_observation_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    own = policy(1)
    data = encode_policy(replace(own.spec, normalized=((0, 4),)), own.params | STATISTICS)
    text = str([list(part) for part in ranges]).replace(" ", "").encode()
    old = b"[[0,4]]"
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(old, text)
    with pytest.raises(ConfigError, match=r"policy: normalized .*expected parts of an observation of 4 numbers"):
        decode_policy(len(header).to_bytes(8, "little") + header + data[8 + length :])


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_scales_are_positive(scale: float) -> None:
    with pytest.raises(RefusedError, match=r"observation\.scale holds .*expected positive numbers"):
        normalising(1, **{SCALE: np.array([1, scale, 1, 1], np.float32)})


def test_each_policy_reads_by_its_own_statistics_and_others_as_it_is() -> None:
    """Two members, one of which normalises with one of its policies alone; an outlier is limited to 10 deviations."""
    rng = np.random.default_rng(0)
    walkers = [normalising(0), policy(2)], [normalising(4, **{MEAN: np.full(4, 7, np.float32)}), policy(6)]
    gripper = None
    callers = [policy(1, SEEN, SAY), policy(5, SEEN, SAY)]
    players: dict[int, list[LoadedPolicy | None]] = {
        slot: [pair[0], caller, pair[1], gripper]
        for slot, (pair, caller) in enumerate(zip(walkers, callers, strict=True))
    }
    layout = ActionLayout(SPACES, 2)
    rows = PolicyRows(SPACES, layout)
    rows.plan(players)
    for _ in range(3):
        seen = [rng.normal(size=(2, 2, 4)) * [3e3, 1, 1, 1e-3], rng.normal(size=(2, 1, 4)), np.zeros((2, 1, 2, 2))]
        seen[0][0, 0, 1] = 1e9
        arrays = [x.astype(np.float32) for x in seen]
        y = rows.forward(arrays)
        for slot, own in players.items():
            for n in (0, 1):
                who = own[(0, 2)[n]]
                assert who is not None
                x = arrays[0][slot, n]
                if who.spec.normalized:
                    x = np.clip((x - who.params[MEAN]) * who.params[SCALE], np.float32(-10), np.float32(10))
                expected = who.spec.network.apply(NumpyOps(), who.params, [x[None]])[0]
                (out,) = (leaf for leaf in layout.leaves if leaf.group == 0)
                got = y[slot, out.start + n * out.width : out.start + (n + 1) * out.width]
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert WALK.width == 2
