"""Updates many networks of one structure at once: stacked weights (a pack), Adam, random numbers, recordings."""
