"""Speech emotion recognition."""
