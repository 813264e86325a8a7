"""What a population learns from: the replay memory, on-policy rollouts, and the agents' decisions in them."""
