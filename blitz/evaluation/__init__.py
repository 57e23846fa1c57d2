"""The best weights of a run, on a split or on images."""
