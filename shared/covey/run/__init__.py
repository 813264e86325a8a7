"""A run on disk: its directory, results, a trained member ready to play, exported policies."""
