"""PESQ and STOI in parallel processes, with a cache."""
