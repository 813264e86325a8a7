"""What happens to a fragment that arrives: checked, journalled, stored as experience, entered into ledgers."""
