"""Decides which actor steps environments for which member: orders, step counts, evaluations, actors' sessions."""
