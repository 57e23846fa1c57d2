"""What a person sees, and the signals that a person sends."""
