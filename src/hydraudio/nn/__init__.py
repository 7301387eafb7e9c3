"""Building blocks of networks in plain PyTorch: layers, front-ends, schedules, cost; no lightning, no hydra."""
