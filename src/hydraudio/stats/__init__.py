"""Intervals and paired tests for tables of scores."""
