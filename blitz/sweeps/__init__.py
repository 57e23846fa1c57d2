"""Many jobs: which they are, how they are run, what came out."""
