"""Evolution of a population: fitness, selection, mutation, and the record of all members that ever lived."""
