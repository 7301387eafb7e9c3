"""Front-ends: from a signal to what a network sees, and back."""
