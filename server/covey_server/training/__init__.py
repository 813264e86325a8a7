"""The thread that trains the population, members' evaluation, and the two ways of evolution."""
