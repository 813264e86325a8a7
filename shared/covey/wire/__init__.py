"""What crosses the network: channels, credentials, spaces as messages, policy files, and the numbers that bound it."""
