"""PolSESS: Polish speech with scenes, events and reverberation."""
