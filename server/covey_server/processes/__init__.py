"""What `covey train` starts beside the learner: the actor processes of its own machine."""
