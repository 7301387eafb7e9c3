"""The network and the corpus of this project."""
