"""Libri2Mix: two talkers of LibriSpeech, clean or in noise of WHAM!."""
