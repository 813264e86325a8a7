"""How an actor's arriving message is handled: checked, written to the journal, stored as experience, counted."""
