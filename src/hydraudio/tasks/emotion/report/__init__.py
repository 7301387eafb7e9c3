"""Reports of speech emotion recognition."""
