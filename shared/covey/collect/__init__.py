"""Collects experience in an actor: steps environments as the learner orders, and packs the timesteps for sending."""

from covey.collect.collector import Collector
from covey.collect.evaluate import evaluate
from covey.collect.fragment import FragmentBuilder
from covey.collect.parts import FragmentAssembler, split_fragment

__all__ = ["Collector", "FragmentAssembler", "FragmentBuilder", "evaluate", "split_fragment"]
