"""Scripted players that learned policies are judged against: they see what wins, and what loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from benchmarks.games.__main__ import played
from benchmarks.games.players import Player, at_random, board_of, one_ply, perfect

TICTACTOE, CONNECT_FOUR = "pettingzoo.classic.tictactoe_v3", "pettingzoo.classic.connect_four_v3"


class Scripted:
    """A scripted player with the interface of a learned policy."""

    def __init__(self, player: Player) -> None:
        self._player, self._rng = player, np.random.default_rng(1)

    def reset(self) -> None:
        pass

    def act(self, seen: Mapping[str, Any]) -> dict[str, int]:
        return {agent: self._player(value, self._rng) for agent, value in seen.items()}


@pytest.mark.parametrize("seat", ["player_1", "player_2"])
def test_a_perfect_player_never_loses_and_draws_against_itself(seat: str) -> None:
    assert played(TICTACTOE, Scripted(perfect), seat, at_random, 200)["loss"] == 0
    assert played(TICTACTOE, Scripted(perfect), seat, perfect, 50) == {"win": 0, "draw": 1, "loss": 0}
    assert played(TICTACTOE, Scripted(at_random), seat, perfect, 200)["win"] == 0


@pytest.mark.parametrize("seat", ["player_0", "player_1"])
def test_one_ply_beats_random_moves_nearly_always(seat: str) -> None:
    # 97 and 95 of 100 games in 5,000, so these bounds are four standard errors away.
    assert played(CONNECT_FOUR, Scripted(one_ply), seat, at_random, 200)["win"] > 0.88
    assert played(CONNECT_FOUR, Scripted(at_random), seat, one_ply, 200)["loss"] > 0.88


def drawing(*rows: str) -> dict[str, Any]:
    """The observation in connect four of the player whose pieces are drawn as x; the other's are o, "." is empty."""
    board = np.array([list(row) for row in rows])
    full = board[0] != "."
    return {"observation": np.stack([board == "x", board == "o"], -1), "action_mask": (~full).astype(np.int8)}


EMPTY = "." * 7


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ((EMPTY, EMPTY, EMPTY, EMPTY, "ooo....", "xxx...."), 3),  # wins, rather than prevents
        ((EMPTY, EMPTY, EMPTY, EMPTY, ".......", "ooo.x.x"), 3),
        ((EMPTY, EMPTY, ".......", "o......", "o.....x", "o....xx"), 0),
        ((EMPTY, EMPTY, ".......", "..xo...", ".xoo...", "xooxo.."), 3),  # rising
        ((EMPTY, EMPTY, "x......", "ox.....", "oox....", "xoo...."), 3),  # falling
    ],
)
def test_one_ply_sees_rows_of_every_direction(rows: tuple[str, ...], column: int) -> None:
    seen = drawing(*rows)
    assert {one_ply(seen, np.random.default_rng(i)) for i in range(20)} == {column}


def test_boards_are_told_apart_by_whose_pieces_they_are() -> None:
    board = board_of(drawing(EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, "x.o...."))
    assert board[5].tolist() == [1, 0, -1, 0, 0, 0, 0]
