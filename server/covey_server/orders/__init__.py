"""Decides which actor steps what: orders, slots, members' step counts, evaluation episodes, actors' sessions."""
