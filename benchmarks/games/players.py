"""Scripted players of tictactoe and connect four, who see what the environment shows to an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Board = NDArray[np.int8]
"""(rows, columns), or the nine squares of tictactoe: 1 is the player's own, -1 the other's, 0 empty."""

Player = Callable[[Mapping[str, Any], np.random.Generator], int]
"""From what an agent sees, {"observation", "action_mask"}, to its action."""


def board_of(seen: Mapping[str, Any]) -> Board:
    """The board of an observation that has a plane of the agent's own pieces and one of the other's."""
    planes = np.asarray(seen["observation"], np.int8)
    return planes[..., 0] - planes[..., 1]


def legal(seen: Mapping[str, Any]) -> list[int]:
    """Actions that are legal."""
    return [int(action) for action in np.flatnonzero(seen["action_mask"])]


def at_random(seen: Mapping[str, Any], rng: np.random.Generator) -> int:
    """Choose any of the legal actions, each as probable as the others."""
    return int(rng.choice(legal(seen)))


def one_ply(seen: Mapping[str, Any], rng: np.random.Generator) -> int:
    """In connect four: win if that can be done at once, else prevent the other from it, else any legal column."""
    board = board_of(seen)
    for piece in (1, -1):
        for column in legal(seen):
            if _four(_dropped(board, column, piece), piece):
                return column
    return at_random(seen, rng)


def _dropped(board: Board, column: int, piece: int) -> Board:
    after = board.copy()
    after[int(np.flatnonzero(after[:, column] == 0)[-1]), column] = piece  # row 0 is the top
    return after


def _four(board: Board, piece: int) -> bool:
    """Whether four of a piece stand in a row."""
    own, (rows, columns) = board == piece, board.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        found = np.ones((rows - 3 * down, columns - 3 * abs(right)), bool)
        for i in range(4):
            left = 3 * abs(right) - i if right < 0 else i * right
            found &= own[i * down : i * down + found.shape[0], left : left + found.shape[1]]
        if found.any():
            return True
    return False


LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
"""The rows of three squares that win in tictactoe; squares are numbered as its actions are."""


def perfect(seen: Mapping[str, Any], rng: np.random.Generator) -> int:
    """In tictactoe: any of the moves that are best against a player who makes no mistake."""
    squares = tuple(int(x) for x in board_of(seen).ravel())
    worth = {action: -_worth(_after(squares, action)) for action in legal(seen)}
    return int(rng.choice([action for action, value in worth.items() if value == max(worth.values())]))


def _after(squares: tuple[int, ...], action: int) -> tuple[int, ...]:
    """The board after a move, as the other player sees it."""
    return tuple(-1 if i == action else -x for i, x in enumerate(squares))


@cache
def _worth(squares: tuple[int, ...]) -> int:
    """1, 0 or -1: what becomes of the player whose turn it is, if neither makes a mistake."""
    if any(all(squares[i] == -1 for i in line) for line in LINES):
        return -1
    moves: Iterator[int] = (i for i, x in enumerate(squares) if x == 0)
    return max((-_worth(_after(squares, move)) for move in moves), default=0)


SCRIPTED: dict[str, dict[str, Player]] = {
    "pettingzoo.classic.tictactoe_v3": {"random": at_random, "perfect": perfect},
    "pettingzoo.classic.connect_four_v3": {"random": at_random, "one-ply": one_ply},
}
"""The scripted players of each game, by the environment's entry point and then by the player's name."""
