"""Training from Python in one process: AgileRL's names and arguments, over the parts that the learner is built from."""
