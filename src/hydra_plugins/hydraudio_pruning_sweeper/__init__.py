"""A sweeper for Hydra: the stock Optuna sweeper with pruning, several objectives and resume."""
