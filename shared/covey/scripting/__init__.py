"""Runs from Python: `covey.train`, `covey.Run`, `covey.runs`."""
