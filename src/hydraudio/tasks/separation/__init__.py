"""Speech separation and enhancement."""
