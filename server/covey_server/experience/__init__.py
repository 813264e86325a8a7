"""What members learn from: the replay memory, on-policy rounds, and the decisions in their rows."""
