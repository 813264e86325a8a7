"""Files of a run that need no learner to be read or written: the journal, checkpoints, the lineage file."""
