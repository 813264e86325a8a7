"""Tries an actor, of covey or in any other language, against the rules of the wire: `covey check-actor`."""
