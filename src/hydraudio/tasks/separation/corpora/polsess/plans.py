"""What is drawn about an item of a PolSESS subset, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hydraudio.tasks.separation.corpora.polsess import mm_ipc
from hydraudio.tasks.separation.corpora.polsess.dynamic_mixing import Mixer, Remix
from hydraudio.tasks.separation.corpora.polsess.speed import Speed

_N_CROP_DRAWS = 8


@dataclass(frozen=True)
class Plan:
    """Everything that is drawn about an item.

    Attributes:
        row: of the index.
        variant: of MM-IPC.
        exchanged: speaker 1 and 2 have changed places.
        gain: linear, negative for inverted polarity; applied to input and targets alike.
        starts: samples at which the crop may begin, the first with all targets audible is taken.
        speeds: component -> factor of its speed; those that are not named keep theirs.
        remix: where the components come from instead of the row, None for the row's own.
    """

    row: int
    variant: str
    exchanged: bool = False
    gain: float = 1.0
    starts: tuple[int, ...] = (0,)
    speeds: Mapping[str, float] = field(default_factory=dict)
    remix: Remix | None = None


class TrainingPlans:
    """Plans of the training set: a pure function of (seed, epoch, index).

    Args:
        rows: (n,) rows of the index that have a variant.
        indoor: (n,) bool.
        allowed: variants, None for all.
        weights: variant -> weight, None for uniform.
        swap_talkers: probability to exchange the talkers.
        gain_db: (lowest, highest) level change in dB, None for none.
        flip_polarity: probability to invert.
        last_start: largest sample at which a crop can begin (0: no crop).
        speed: of the talkers, None for their own.
        mixer: draws components of other rows, None for the rows of the table.
    """

    def __init__(
        self,
        rows: np.ndarray,
        indoor: np.ndarray,
        *,
        seed: int,
        allowed: tuple[str, ...] | None = None,
        weights: Mapping[str, float] | None = None,
        swap_talkers: float = 0.0,
        gain_db: Sequence[float] | None = None,
        flip_polarity: float = 0.0,
        last_start: int = 0,
        speed: Speed | None = None,
        mixer: Mixer | None = None,
    ) -> None:
        self.rows, self.indoor, self.seed = rows, indoor, seed
        self.swap_talkers, self.flip_polarity = swap_talkers, flip_polarity
        self.gain_db, self.last_start = gain_db, last_start
        self.speed, self.mixer = speed, mixer
        self.choices = {}
        for room in {bool(room) for room in indoor}:
            variants = mm_ipc.compatible_variants(room, allowed)
            self.choices[room] = (variants, mm_ipc.sampling_weights(variants, weights))

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, epoch: int, index: int) -> Plan:
        seeds = np.random.SeedSequence([self.seed, epoch, index])
        rng = np.random.Generator(np.random.Philox(seeds))
        # one draw per decision, always in this order: turning one option on leaves the others as they are
        variant, swap, level, flip = rng.random(4)
        crops = rng.random(_N_CROP_DRAWS) if self.last_start else np.zeros(1)
        gain = 1.0
        if self.gain_db is not None:
            low, high = self.gain_db
            gain = 10.0 ** ((low + (high - low) * level) / 20.0)
        indoor = bool(self.indoor[index])
        return Plan(
            row=int(self.rows[index]),
            variant=mm_ipc.pick_variant(*self.choices[indoor], variant),
            exchanged=bool(swap < self.swap_talkers),
            gain=-gain if flip < self.flip_polarity else gain,
            starts=tuple(int(crop * (self.last_start + 1)) for crop in crops),
            speeds={} if self.speed is None else self.speed.draw(self.seed, epoch, index),
            remix=None if self.mixer is None else self.mixer.draw(epoch, index, indoor),
        )


class FixedPlans:
    """Plans that are the same in every epoch: a list of (row, variant)."""

    def __init__(self, pairs: list[tuple[int, str]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __call__(self, epoch: int, index: int) -> Plan:
        row, variant = self.pairs[index]
        return Plan(row, variant)
