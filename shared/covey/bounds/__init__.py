"""What a run takes of memory, computed from spaces and configuration before any of it is taken."""
