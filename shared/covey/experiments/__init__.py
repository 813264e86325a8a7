"""Experiments: sweeps, which train a configuration with many seeds and settings, and statistics over their runs."""

SWEEP = "sweep.json"
"""File by which a directory is known to be a sweep's: it says what the sweep trains."""
