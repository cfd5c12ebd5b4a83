"""The words that a user types, and how a command runs."""
