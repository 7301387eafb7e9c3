"""Building blocks that any task's networks may use: norms, masks, attention, causal convolutions, selective scan."""
