"""Weights of other packages to ours and back: one file per network, and `files` for their checkpoint folders."""
