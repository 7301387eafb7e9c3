"""What every run shares: the task, its specification, data, checkpoints, callbacks, loggers, processes."""
