"""Tasks that can begin easy and become hard by stages, as their users say."""

from __future__ import annotations


class Curriculum:
    """A task whose difficulty has stages, from 0 on, under the names that mpe2 gives its methods.

    Attributes:
        curriculum_stage: The stage.
        STAGES: How many there are.
    """

    STAGES: int
    curriculum_stage: int = 0

    def advance_curriculum(self) -> None:
        """Go to the next stage; at the last one nothing changes."""
        self.set_curriculum_stage(self.curriculum_stage + 1)

    def set_curriculum_stage(self, stage: int) -> None:
        """Go to a stage, or to the nearest one that there is."""
        self.curriculum_stage = max(0, min(stage, self.STAGES - 1))
