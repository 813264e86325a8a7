"""`covey lineage --tree`: children below their parents."""

from __future__ import annotations

from typing import Any

from covey.cli.lineage_tree import LEGEND, lineage_tree


def member(number: int, parent: int | None, died: int | None = None, **more: Any) -> dict[str, Any]:
    generation = 0 if parent is None else number // 2
    return {
        "member_id": number,
        "parent_id": parent,
        "generation": generation,
        "died_generation": died,
        "fitness": float(-number),
        "mutation": "none",
        "change": "",
    } | more


def test_children_stand_below_their_parents_and_the_best_ones_line_is_marked() -> None:
    members = [
        member(0, None, died=1),
        member(1, None, died=2),
        member(2, 1, died=2),
        member(3, 1, mutation="rl_hp", change="lr 0.1 -> 0.2"),
        member(4, 3),
        member(5, 3),
    ]
    assert [line.plain for line in lineage_tree(members, best=4)] == [
        "○ 0  0.00  none  0 to 0",
        "★ 1  -1.00  none  0 to 1",
        "│ ○ 2  -2.00  none  1 to 1",
        "★ 3  -3.00  rl_hp: lr 0.1 -> 0.2  1 to now",
        "│ ● 5  -5.00  none  2 to now",
        "★ 4  -4.00  none  2 to now",
        LEGEND,
    ]


def test_a_long_lineage_stays_narrow() -> None:
    # Each member has two children: the deepest of 1,000 is ten generations down, each of which could be a column.
    members = [member(n, None if n == 0 else (n - 1) // 2) for n in range(1000)]
    lines = [line.plain for line in lineage_tree(members, best=999)]
    assert len(lines) == 1001
    assert max(line.count("│") for line in lines) <= 11
    # One after the other, thousands deep, in one column.
    chain = [member(n, n - 1 if n else None) for n in range(3000)]
    assert {line.plain.count("│") for line in lineage_tree(chain, best=2999)} == {0}
