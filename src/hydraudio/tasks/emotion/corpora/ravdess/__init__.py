"""RAVDESS: 24 actors in eight emotions."""
