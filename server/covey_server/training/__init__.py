"""The trainer thread, and the two evolution modes that it follows."""
