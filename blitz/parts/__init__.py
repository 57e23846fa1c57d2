"""What a config group's `name` builds: plain arguments in, plain torch objects out; no part sees a config."""
