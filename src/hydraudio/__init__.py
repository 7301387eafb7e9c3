"""Hydraudio: a Lightning + Hydra experiment template for audio research."""

__version__ = "0.1.0"
