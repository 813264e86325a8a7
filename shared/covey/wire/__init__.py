"""What actors and learner share for the network: channels, credentials, messages, policy files, limits."""
