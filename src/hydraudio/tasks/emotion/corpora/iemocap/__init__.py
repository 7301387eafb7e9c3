"""IEMOCAP: ten actors in five sessions."""
