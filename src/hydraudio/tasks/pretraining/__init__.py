"""Masked-autoencoder pretraining of encoders of sound, and what is done with them: fine-tuning, probes, embeddings."""
