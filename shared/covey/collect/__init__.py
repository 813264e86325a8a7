"""Collecting: running orders over environments, and building the fragments that answer them."""

from covey.collect.collector import Collector
from covey.collect.evaluate import evaluate
from covey.collect.fragment import FragmentBuilder
from covey.collect.parts import FragmentAssembler, split_fragment

__all__ = ["Collector", "FragmentAssembler", "FragmentBuilder", "evaluate", "split_fragment"]
