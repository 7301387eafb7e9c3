"""Listening to checkpoints: the logic, its HTML, and a local page around it; also used by notebooks."""
