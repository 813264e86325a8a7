"""covey: populations of multi-agent policies, trained over gRPC. What both sides agree on."""

__version__ = "0.1.0"
