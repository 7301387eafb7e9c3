"""Deterministic generators of sounds: voices, rooms, scenes, events; no corpus."""
