"""The actor: a process that steps environments as a learner orders, and streams back what came of it."""
