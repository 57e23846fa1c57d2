"""Search strategies: which jobs of a sweep are trained next, and how far."""
