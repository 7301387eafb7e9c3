"""Reports of this floor: of a pretraining, and of a classifier."""
