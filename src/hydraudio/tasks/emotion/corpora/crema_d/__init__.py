"""CREMA-D: 91 actors in six emotions."""
