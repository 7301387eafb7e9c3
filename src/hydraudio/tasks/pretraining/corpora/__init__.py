"""Corpora of labelled and unlabelled sound for pretraining and classification."""
