"""Corpora of mixtures and their sources, one LightningDataModule each, and what they are made of."""
