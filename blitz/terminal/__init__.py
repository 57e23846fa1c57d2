"""Terminal output, and the signals that stop a run."""
