"""Actors that run in threads of a test."""

from __future__ import annotations

import random
import threading

from tests.support.processes import PATIENCE_S

from covey_actor.connection import Backoffs
from covey_actor.process import Actor, ActorOptions


class Running:
    """An actor in a thread, and how it ended."""

    def __init__(self, address: str, **options: object) -> None:
        fields: dict[str, object] = {
            "name": "a1",
            "allow_env": ("tests.*",),
            "waits": Backoffs(first_s=0.02, longest_s=0.1, rng=random.Random(0)),
        }
        self.actor = Actor(ActorOptions(learner=address, **(fields | options)))  # type: ignore[arg-type]
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.actor.run()
        except BaseException as exc:
            self.error = exc

    def ended(self) -> BaseException | None:
        """Wait for its end; returns what it raised."""
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the actor goes on"
        return self.error
