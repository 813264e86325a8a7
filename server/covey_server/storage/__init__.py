"""A run's files on disk: the journal, checkpoints and the lineage file. None of them needs a learner object."""
