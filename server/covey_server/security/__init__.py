"""Access to the learner's gRPC server: TLS certificates, bearer tokens, roles, rate limits and error translation."""
