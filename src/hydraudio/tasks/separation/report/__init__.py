"""Reports of separation and enhancement."""
