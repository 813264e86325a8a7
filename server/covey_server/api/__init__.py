"""Training from Python in one process, with the names and arguments of AgileRL, by the learner's own code."""
