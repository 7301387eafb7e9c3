"""Weights of other implementations for the networks of this floor."""
