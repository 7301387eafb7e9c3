"""Reading, writing, resampling, packing, cutting and mixing of audio (numpy on this side, no torch)."""
