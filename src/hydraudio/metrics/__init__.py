"""Metrics: how good a result is, checked against reference implementations."""
