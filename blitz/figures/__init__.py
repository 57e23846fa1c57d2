"""Pictures of one run and of many, drawn from plain data."""
