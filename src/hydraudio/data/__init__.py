"""One LightningDataModule per corpus: files on disk -> batches."""
