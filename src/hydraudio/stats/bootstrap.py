"""How the 95 % intervals of a report are made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bootstrap:
    """Number of resamples and seed of the intervals.

    What belongs together is resampled whole: a recording with all its variants, all items of a speaker.
    """

    n_bootstrap: int = 2000
    seed: int = 0

    @property
    def settings(self) -> dict[str, int]:
        """Return the keyword arguments of the functions that make intervals."""
        return {"n_bootstrap": self.n_bootstrap, "seed": self.seed}

    def text(self, resampled: str) -> str:
        """Describe the settings in words; resampled: what is drawn as a whole, such as a recording."""
        return f"{self.n_bootstrap} bootstrap resamples of {resampled}s, seed {self.seed}"
