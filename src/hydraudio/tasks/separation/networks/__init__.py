"""Networks that separate and enhance: (batch, time) mixtures -> (batch, n_sources, time) estimates."""
