"""A run's curves: what it gives over its env steps, when it gives it, and the files and services that show it."""
