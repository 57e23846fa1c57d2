"""One run's life: found, built, started, resumed, recorded, described."""
