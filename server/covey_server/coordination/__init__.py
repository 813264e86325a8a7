"""How the learner's threads live together: one lock, the run's state, a bell, and a watch over every thread."""
