"""How a running learner reaches its files, and how a restarted one comes back from them."""
