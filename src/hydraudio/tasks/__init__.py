"""Objectives: one LightningModule per file."""
