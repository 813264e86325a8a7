"""`covey render` films episodes of a trained member and writes an animated GIF."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covey.cli.chosen import GENERATION, MEMBER, read_chosen
from covey.cli.evaluate import unseen_episode_seed
from covey.cli.players import PLAY
from covey.cli.run_names import RunName
from covey.cli.terminal import say
from covey.errors import ConfigError, EnvironmentLoadError, StorageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from covey.envs.loading import MakeEnv

FPS = 10
"""Frames per second if neither the command line nor the environment says how many."""


def register(app: typer.Typer) -> None:
    """Add `covey render` to the command line."""
    app.command()(render)


def render(
    out: Annotated[Path, typer.Option("--out", metavar="FILE.gif", help="The file to write the animated GIF to.")],
    run: RunName = None,
    member: Annotated[str | None, MEMBER] = None,
    generation: Annotated[int | None, GENERATION] = None,
    episodes: Annotated[int, typer.Option("--episodes", min=1, max=1000, help="Number of episodes to play.")] = 1,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            help="Number from which the seeds of all episodes follow; covey evaluate with it plays the same.",
        ),
    ] = 0,
    steps: Annotated[
        int, typer.Option("--steps", min=1, max=10_000, help="Env steps after which an episode is cut off.")
    ] = 500,
    play_: Annotated[list[str] | None, PLAY] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps", min=0.1, max=100, help="Frames per second; those that the environment asks for if left out."
        ),
    ] = None,
) -> None:
    """Play episodes as `covey evaluate` does and write what they look like to an animated GIF."""
    if out.suffix.lower() != ".gif":
        raise ConfigError(f"--out {out}: expected a name that ends in .gif, as covey render writes animated GIFs")
    try:
        import PIL.Image  # noqa: F401
    except ImportError as exc:
        raise ConfigError("covey render needs Pillow to write a GIF: pip install 'covey-marl[render]'") from exc
    # pygame draws into memory, as the machine may have no screen.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

    from covey.cli.players import by, line_ups
    from covey.collect.evaluate import play
    from covey.envs.building import build_slots

    trained = read_chosen(run, member, generation)
    chosen = line_ups(trained, play_ or [])
    film = Film()
    limit = min(steps, trained.config.eval_episode_steps)
    camera = film.camera(trained.drawn_environment())
    # One after the other, as they follow each other in the film, in one environment, as building it may take long.
    environments = build_slots(camera, trained.spaces, 1)
    try:
        played = [
            *chain.from_iterable(
                play(environments, trained.spaces, chosen[k % len(chosen)].seats, [unseen_episode_seed(seed, k)], limit)
                for k in range(episodes)
            )
        ]
    finally:
        environments.close()
    try:
        film.save(out, fps or film.fps)
    except OSError as exc:
        raise StorageError(f"{out} cannot be written ({exc}); name another file with --out") from exc
    for k, episode in enumerate(played):
        returns = zip(trained.spaces.agent_ids, episode.returns, strict=True)
        others = chosen[k % len(chosen)].others
        played_by = [f"{agent}{by(others.get(agent))} {value:.2f}" for agent, value in returns]
        say(f"{episode.length} env steps: " + ", ".join(played_by))
    say(f"{out}: {len(film.frames)} frames of member {trained.member_id} of generation {trained.generation}")


class Film:
    """Collects a picture of an environment after every reset and step, to be written as a GIF."""

    def __init__(self) -> None:
        self.frames: list[Image] = []
        self.fps: float = FPS

    def camera(self, make_env: MakeEnv) -> MakeEnv:
        """Return a function that builds the same environment as `make_env` and has every step filmed."""
        from pettingzoo.utils.wrappers import BaseParallelWrapper

        film = self

        class Camera(BaseParallelWrapper):  # type: ignore[misc, type-arg, unused-ignore]
            """Wraps an environment and takes a picture of it after every reset and step."""

            def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
                """Reset the environment and take a frame."""
                result = self.env.reset(seed=seed, options=options)
                film.take(self.env)
                return result

            def step(self, actions: dict[str, Any]) -> Any:
                """Step the environment and take a frame."""
                result = self.env.step(actions)
                film.take(self.env)
                return result

        def make() -> Any:
            env = make_env()
            self.fps = (getattr(env, "metadata", None) or {}).get("render_fps", FPS)
            return Camera(env)

        return make

    def take(self, env: Any) -> None:
        """Take a picture of the environment as it looks now.

        Raises:
            EnvironmentLoadError: it does not render a picture.
        """
        import numpy as np
        from PIL import Image

        drawn = env.render()
        if not isinstance(drawn, np.ndarray) or drawn.ndim != 3 or drawn.dtype != np.uint8:
            raise EnvironmentLoadError(
                f"environment {env}: render() gave {type(drawn).__name__}, expected a picture (height, width, 3); its "
                "render_mode 'rgb_array' does not draw"
            )
        # In 256 colours, as a GIF has them, which takes a third of the memory.
        self.frames.append(Image.fromarray(drawn[..., :3]).quantize(256))

    def save(self, path: Path, fps: float) -> None:
        """Write the film as a GIF that plays in a loop.

        Raises:
            OSError: as the system says.
        """
        first, *others = self.frames
        first.save(path, "GIF", save_all=True, append_images=others, duration=1000 / fps, loop=0)
