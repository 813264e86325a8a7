"""What crosses the network: channels, credentials, messages, policy files."""
