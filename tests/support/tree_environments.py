"""Environments whose observations or actions are a Dict or Tuple: `tests.support.tree_environments:NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from tests.support.written_environments import F, Plain


class Trees(Plain):
    """Observations are a dictionary of an image, a tuple, and a text that nobody can read."""

    tree = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (4, 3), np.uint8),
            "inventory": spaces.Tuple((spaces.Discrete(4, start=1), spaces.MultiBinary([2, 2]))),
            "mission": spaces.Text(20),
            "where": spaces.Box(-10, 10, (2,), F),
        }
    )
    seen = tree

    def observation(self, agent: Any) -> Any:
        image = np.full((4, 3), self.time, np.uint8)
        held = (np.int64(1 + self.time % 4), np.ones((2, 2), np.int8))
        return {
            "image": image,
            "inventory": held,
            "mission": "go",
            "where": np.array([self.time, self.names.index(agent)], F),
        }


class MaskedTrees(Trees):
    """The same with an action mask beside it: agents may not do 2."""

    def observation_space(self, agent: Any) -> Any:
        return spaces.Dict({**self.tree.spaces, "action_mask": spaces.MultiBinary(3)})

    def observation(self, agent: Any) -> Any:
        return super().observation(agent) | {"action_mask": np.array([1, 1, 0], np.int8)}

    def step(self, actions: Mapping[Any, Any]) -> Any:
        assert 2 not in actions.values()
        return super().step(actions)


class TupleOfMaskedTrees(MaskedTrees):
    """The same tree under the key `obs`, as a tuple, beside the mask."""

    def observation_space(self, agent: Any) -> Any:
        held = spaces.Tuple(tuple(self.tree.spaces.values()))
        return spaces.Dict({"obs": held, "action_mask": spaces.MultiBinary(3)})

    def observation(self, agent: Any) -> Any:
        seen = super().observation(agent)
        mask = seen.pop("action_mask")
        return {"obs": tuple(seen.values()), "action_mask": mask}


class ReadableTrees(Trees):
    """The same without the text."""

    tree = spaces.Dict({key: part for key, part in Trees.tree.spaces.items() if key != "mission"})
    seen = tree


class TreeActions(Plain):
    """Actions are a dictionary of a choice, several choices of two dimensions, and numbers; masks have its form."""

    acts = spaces.Dict(
        {
            "aim": spaces.Box(-2, 2, (2,), F),
            "move": spaces.Discrete(3, start=1),
            "use": spaces.Tuple((spaces.MultiDiscrete(np.array([[2, 3], [2, 2]])), spaces.MultiBinary(2))),
        }
    )

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        seen, _ = super().reset(seed, options)
        return seen, self._infos()

    def step(self, actions: Mapping[Any, Any]) -> Any:
        for action in actions.values():
            assert action["move"] != 2 and action["use"][0][0, 1] == 0
        seen, rewards, terminated, truncated, _ = super().step(actions)
        return seen, rewards, terminated, truncated, self._infos()

    def _infos(self) -> Any:
        use = np.array([1, 1, 1, 0, 0, 1, 1, 1, 1], np.int8)
        mask = {"use": (use, None), "move": np.array([1, 0, 1], np.int8), "aim": None}
        return {a: {"action_mask": mask} for a in self.possible_agents}
