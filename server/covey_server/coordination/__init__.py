"""How the learner's threads share state: one lock, the run's state machine, a bell for orders, a watch over threads."""
