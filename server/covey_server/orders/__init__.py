"""Who steps what: the scheduler, evaluations, members' work, exploration, and the actors' sessions."""
