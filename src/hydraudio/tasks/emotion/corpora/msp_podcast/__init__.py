"""MSP-PODCAST: turns of podcasts, rated by at least five people each."""
