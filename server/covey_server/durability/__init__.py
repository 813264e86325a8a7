"""How a run gets to disk and back: checkpoints, syncing the journal, and recovery."""
