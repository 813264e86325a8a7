"""The actor: a process that steps environments as a learner orders, and sends it the experience."""
