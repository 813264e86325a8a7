"""Independent Q-learning for covey."""
