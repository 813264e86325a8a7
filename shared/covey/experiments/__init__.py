"""Experiments: sweeps, which train a configuration with many seeds and settings, and statistics over their runs."""
