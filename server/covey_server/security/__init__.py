"""Who may call the learner, for what and how often: certificates, tokens, roles, rate limits."""
