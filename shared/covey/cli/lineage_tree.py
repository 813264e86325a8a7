"""The lineage of a run as a tree in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

Answer = Mapping[str, Any]

LEGEND = "★ led to the best member   ● lives   ○ died"


def lineage_tree(members: Sequence[Answer], best: int | None) -> Iterator[Text]:
    """Yield a line for each member below its parent, then what the marks mean.

    The child that leads to the best member, or else the one with most descendants, goes on in its parent's column; the
    others branch off one column to the right, so that a lineage of n members is at most log2(n) + 1 columns deep.

    Args:
        members: As `covey lineage --json` prints them, oldest first.
        best: Id of the best member, whose ancestors are marked.
    """
    by_id = {m["member_id"]: m for m in members}
    children: dict[int | None, list[int]] = {}
    for m in members:
        parent = m["parent_id"] if m["parent_id"] in by_id else None
        children.setdefault(parent, []).append(m["member_id"])
    descendants = dict.fromkeys(by_id, 1)
    for member_id in sorted(by_id, reverse=True):  # children have higher ids than their parents
        parent = by_id[member_id]["parent_id"]
        if parent in descendants:
            descendants[parent] += descendants[member_id]
    winners = set()
    at = best
    while at in by_id:
        winners.add(at)
        at = by_id[at]["parent_id"]
    left = [(member_id, 0) for member_id in reversed(children.get(None, []))]
    while left:
        member_id, depth = left.pop()
        yield _line(by_id[member_id], depth, led_to_best=member_id in winners)
        own = sorted(children.get(member_id, []), key=lambda c: (c in winners, descendants[c]))
        if own:
            left.append((own[-1], depth))
            left += [(child, depth + 1) for child in reversed(own[:-1])]
    yield Text(LEGEND, style="dim")


def _line(m: Answer, depth: int, *, led_to_best: bool) -> Text:
    died = m["died_generation"]
    mark = "★" if led_to_best else "○" if died is not None else "●"
    fitness = "-" if m["fitness"] is None else f"{m['fitness']:.2f}"
    how = f"{m['mutation']}: {m['change']}" if m["change"] else str(m["mutation"])
    lived = f"{m['generation']} to {'now' if died is None else died - 1}"
    line = Text("│ " * depth, style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f"{mark} {m['member_id']}", style="bold" if led_to_best else "")
    line.append(f"  {fitness}  {how}", style="" if led_to_best else "default")
    line.append(f"  {lived}", style="dim")
    return line
