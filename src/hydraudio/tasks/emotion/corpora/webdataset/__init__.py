"""Emotion corpora as WebDataset shards."""
