"""Losses of attributes and genders, and mixup of labels."""
