"""How a model learns: plain PyTorch, no config, no tracking."""
