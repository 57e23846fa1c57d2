"""A run again, and a verdict."""
