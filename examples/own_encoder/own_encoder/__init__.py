"""Two encoders for covey: one over its operations, one that is a torch.nn.Module."""
