"""The learner on the wire: its two gRPC services, the thread that runs them, and the reports that they answer with."""
