"""The trainer thread, members' evaluation, and the two evolution modes that say when members are compared."""
