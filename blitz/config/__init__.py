"""From overrides to checked settings."""
