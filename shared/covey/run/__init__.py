"""A run on disk: its directory and checkpoints, a trained member ready to play, exported policies."""

SWEEP = "sweep.json"
"""File by which a folder of runs is known to be a sweep's: it says what the sweep trains."""
