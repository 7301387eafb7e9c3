"""Running trained tasks on recordings."""
