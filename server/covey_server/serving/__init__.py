"""The learner's two gRPC services, the thread that runs them, and the messages they answer with."""
