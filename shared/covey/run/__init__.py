"""A run on disk: its directory and checkpoints, a trained member ready to play, exported policies."""
