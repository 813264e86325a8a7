"""Evolution: from an evaluated population to the next one, on members in their natural shapes."""
