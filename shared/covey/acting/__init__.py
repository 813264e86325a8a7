"""Policies turn observations into actions, for all environments of an actor at once."""

from covey.acting.actions import ActionLayout
from covey.acting.decisions import Decisions
from covey.acting.frame_stacks import FrameStacks
from covey.acting.loaded import LoadedPolicy
from covey.acting.noise import SlotNoise
from covey.acting.policies import ActingPack, PolicyRows

__all__ = ["ActingPack", "ActionLayout", "Decisions", "FrameStacks", "LoadedPolicy", "PolicyRows", "SlotNoise"]
