"""Trained networks as folders that stand alone, on disk and on the Hugging Face hub."""
