"""Runs many networks of one structure at once: their weights side by side (a pack), Adam, random numbers, updates."""
