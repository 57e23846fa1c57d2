"""Runs side by side: what differs, what came out, and what is significant."""
