"""Who steps what: the scheduler, slots, members' ledgers and pace, evaluation episodes, and the actors' sessions."""
