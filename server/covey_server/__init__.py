"""covey_server: the learner. Owns replay, the population, its evolution and the orders that actors work on."""
