"""How an arriving fragment is handled: checked, written to the journal, stored as experience, entered into ledgers."""
