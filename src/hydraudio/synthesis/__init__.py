"""Deterministic generators and builders that write corpora in the real on-disk formats."""
