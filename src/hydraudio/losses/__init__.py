"""Losses: nn.Modules that give one value per item, lower is better."""
