"""Callbacks that any task may use."""
