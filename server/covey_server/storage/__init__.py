"""A run's files on disk: the journal, checkpoints and the record of all members that ever lived (lineage)."""
