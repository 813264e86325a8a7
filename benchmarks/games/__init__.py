"""Games of policies that a run has learned against scripted players: `python -m benchmarks.games RUN`."""
