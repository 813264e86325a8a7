"""Environments of the multi-agent world, and what each needs: `python -m benchmarks.world` tries them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

GAMES = (
    "pettingzoo",
    "pygame-ce>=2.3",
    "pymunk>=6.2",
    "scipy>=1.4",
    "box2d>=2.3.10",
    "rlcard",
    "chess",
    "supersuit>=3.9",
)
MOMA = ("momaland", "pymunk>=6.2", "scipy")
OLD = ("numpy<2", "gymnasium<1", "pettingzoo==1.24.3")
"""What environments ask for that have not followed numpy 2 and gymnasium 1."""

PARTICLES = (
    *("simple_v3", "simple_spread_v3", "simple_tag_v3", "simple_speaker_listener_v4", "simple_world_comm_v3"),
    *("simple_adversary_v3", "simple_crypto_v3", "simple_push_v3", "simple_reference_v3"),
    *("simple_formation_v1", "simple_line_v1"),
)

WRAPPED = "benchmarks.world.wrapped"


@dataclass(frozen=True)
class Row:
    """An environment.

    Attributes:
        package: The package that it comes from, as the table names it.
        name: Its entry point.
        requires: Packages to install beside an actor; equal tuples share an environment. Where `package` is no name
            of a package, the first is the environment's.
        config: Arguments of its function.
        opponents: Who plays at random while others are judged, where returns sum to zero.
        images: Whether agents see pixels; these are tried last, as they take long.
        beside_learner: Whether the environment needs packages that the learner has, such as torch.
        settings: Further settings of its runs, by section.
    """

    package: str
    name: str
    requires: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    opponents: tuple[str, ...] = ()
    images: bool = False
    beside_learner: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return a name of this row that no other has: the entry point and the values of its arguments."""
        values = [str(v) for v in self.config.values() if isinstance(v, str | int)]
        return " ".join([self.name.removeprefix(f"{WRAPPED}:"), *values])


NOT_INSTALLABLE = {
    "dm-meltingpot": "no wheel for Python 3.11, and its source does not build",
    "gfootball": "no wheel: its engine is built from source",
    "SMAC, SMACv2, SMAClite, gym-pybullet-drones": "not on PyPI",
    "CityLearn, flatland-rl": "interfaces of their own, and pins (numpy < 2, gymnasium <= 0.28.1) of many packages",
    "overcooked-ai": "an interface of its own, and numpy < 2; the package overcooked has the same kitchens",
}
"""Packages that are not in the table, and why."""


def rows() -> Iterator[Row]:
    """All environments, those of vectors first."""
    found = [*_particles(), *_classic(), *_vectors(), *_own_environments(), *_images()]
    yield from sorted(found, key=lambda row: row.images)


def _particles() -> Iterator[Row]:
    for task in PARTICLES:
        yield Row("mpe2", f"mpe2.{task}", ("mpe2>=1.1", "supersuit>=3.9"))
    yield Row("mpe2", "mpe2.simple_spread_v3", ("mpe2>=1.1", "supersuit>=3.9"), {"continuous_actions": True})
    yield Row("SuperSuit", f"{WRAPPED}:padded", ("mpe2>=1.1", "supersuit>=3.9"), {"name": "mpe2.simple_tag_v3"})


def _classic() -> Iterator[Row]:
    for game in (
        "tictactoe_v3",
        "connect_four_v3",
        "leduc_holdem_v4",
        "texas_holdem_v4",
        "texas_holdem_no_limit_v6",
        "rps_v2",
    ):
        first = "player_1" if game == "tictactoe_v3" else "player_0"
        yield Row("classic", f"pettingzoo.classic.{game}", GAMES, opponents=(first,))
    yield Row("classic", "pettingzoo.classic.go_v5", GAMES, {"board_size": 5}, opponents=("black_0",))
    yield Row("classic", "pettingzoo.classic.chess_v6", GAMES, opponents=("player_0",))
    yield Row("classic", "pettingzoo.classic.hanabi_v5", (*GAMES, "open_spiel", "shimmy"))
    yield Row("sisl", "pettingzoo.sisl.multiwalker_v9", GAMES)
    yield Row("sisl", "pettingzoo.sisl.pursuit_v5", GAMES)
    yield Row("butterfly", "pettingzoo.butterfly.knights_archers_zombies_v11", GAMES)


def _vectors() -> Iterator[Row]:
    yield Row("lbforaging", "lbforaging:Foraging-8x8-2p-3f-v3", ("lbforaging", "rware"))
    yield Row("lbforaging", "lbforaging:Foraging-8x8-2p-2f-coop-v3", ("lbforaging", "rware"))
    yield Row("rware", "rware:rware-tiny-2ag-v2", ("lbforaging", "rware"))
    yield Row("rware", "rware:rware-tiny-4ag-v2", ("lbforaging", "rware"))
    yield Row("gymnasium", "gymnasium:CartPole-v1", ("lbforaging", "rware"))
    yield Row("highway-env", "highway_env:intersection-multi-agent-v0", ("highway-env",))
    yield Row("multigrid", "multigrid.envs:MultiGrid-Empty-8x8-v0", ("multigrid",))
    robots = ("gymnasium-robotics", "mujoco")
    for scenario, parts in (("HalfCheetah", "2x3"), ("Hopper", "3x1"), ("Ant", "2x4"), ("Walker2d", "2x3")):
        config = {"scenario": scenario, "agent_conf": parts}
        yield Row("MaMuJoCo", "gymnasium_robotics.mamujoco_v1", robots, config)
    yield Row("magent2", "magent2.environments.tiger_deer_v4", ("magent2",), {"map_size": 10})
    yield Row("magent2", "magent2.environments.battle_v4", ("magent2",), {"map_size": 14})
    yield Row("magent2", "magent2.environments.adversarial_pursuit_v4", ("magent2",), {"map_size": 14})
    yield Row("DSSE", f"{WRAPPED}:city_search", ("DSSE",))
    beach = "momaland.envs.beach.beach"
    yield Row("momaland", beach, MOMA)
    yield Row("momaland", f"{WRAPPED}:weighted", MOMA, {"name": beach, "num_agents": 10})
    items: dict[str, Any] = {"name": "momaland.envs.item_gathering.item_gathering"}
    yield Row("momaland", f"{WRAPPED}:weighted", MOMA, items)
    marl = ("overcooked", "laser-learning-environment")
    for layout in ("coordination_ring", "cramped_room"):
        kitchen = {"layout": layout, "horizon": 50}
        yield Row("overcooked", "overcooked:Overcooked.from_layout", marl, kitchen)
    for level in (3, 6):
        yield Row("laser-learning-environment", "lle:level", marl, {"level": level})
    for scenario in ("balance", "transport", "navigation", "wheel"):
        arena: dict[str, Any] = {"scenario": scenario, "max_steps": 50}
        yield Row("vmas", "vmas:make_env", ("vmas",), arena, beside_learner=True)
    for task in ("MPE_simple_spread_v3", "MPE_simple_tag_v3"):
        yield Row("jaxmarl", "jaxmarl:make", ("jaxmarl", "jax"), {"env_id": task})


def _own_environments() -> Iterator[Row]:
    spiel = ("open_spiel", "shimmy")
    for game in ("tic_tac_toe", "connect_four"):
        yield Row("open_spiel", f"{WRAPPED}:open_spiel", spiel, {"game": game}, opponents=("player_0",))
    yield Row("pogema", f"{WRAPPED}:pogema", ("pogema", *OLD))
    yield Row("sumo-rl", f"{WRAPPED}:sumo", ("sumo-rl", "eclipse-sumo", *OLD))


def _images() -> Iterator[Row]:
    small: dict[str, Any] = {"name": "pettingzoo.butterfly.pistonball_v6", "n_pistons": 4}
    yield Row("butterfly", f"{WRAPPED}:small_images", GAMES, small, images=True)
    pong = {"name": "pettingzoo.butterfly.cooperative_pong_v6"}
    yield Row("butterfly", f"{WRAPPED}:small_images", GAMES, pong, images=True)
    atari = ("multi-agent-ale-py", "ale-py", "supersuit>=3.9", "pygame-ce>=2.3")
    ram = {"game": "space_invaders_v2", "obs_type": "ram"}
    yield Row("atari", f"{WRAPPED}:atari", atari, ram)
    yield Row("atari", f"{WRAPPED}:atari", atari, {"game": "space_invaders_v2"}, images=True)
    for game in ("pong_v3", "boxing_v2"):
        yield Row("atari", f"{WRAPPED}:atari", atari, {"game": game}, opponents=("first_0",), images=True)
