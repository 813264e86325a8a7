"""Finds which agents share a policy network."""

from __future__ import annotations

from covey.spaces import EnvironmentSpaces


def network_ids(spaces: EnvironmentSpaces, shared: bool) -> dict[str, tuple[int, ...]]:
    """Return for each policy network, by its id, the indices of the agents that play by it.

    A network per group, with the group's id, where parameters are shared; otherwise one per agent, with the agent's id.
    """
    if shared:
        return {g.group_id: g.agents for g in spaces.groups}
    return {a.agent_id: (i,) for i, a in enumerate(spaces.agents)}
