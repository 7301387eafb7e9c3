"""Items of a PolSESS subset: what is drawn about each, how it is read and mixed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hydraudio.core.sampling import generator
from hydraudio.tasks.separation.corpora.mixtures import is_silent, level_db, silence_message
from hydraudio.tasks.separation.corpora.polsess import mm_ipc
from hydraudio.tasks.separation.corpora.polsess.dynamic_mixing import Mixer, Remix, peak_gain, remixed_parts
from hydraudio.tasks.separation.corpora.polsess.index import CorpusIndex, Store
from hydraudio.tasks.separation.corpora.polsess.speed import Speed, change_speed, excerpt_length

Excerpt = Callable[[str, int], np.ndarray]
"""(component, start) -> (time,) of an item's length."""

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
        rng = generator(self.seed, epoch, index)
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


class PolSESSDataset(Dataset):
    """Items of one subset, addressed by (epoch, index).

    Args:
        index: the subset's table.
        store: its samples.
        plans: what is drawn per (epoch, index).
        problem: ES, EB or SB.
        construction: "auto", "subtract" or "add" (see `mm_ipc.recipe`).
        n_samples: length of the items; shorter than the clips for crops.
        metadata: add the dict of levels and classes.
    """

    def __init__(
        self,
        index: CorpusIndex,
        store: Store,
        plans: TrainingPlans | FixedPlans,
        *,
        problem: str,
        construction: str = "auto",
        n_samples: int | None = None,
        metadata: bool = False,
    ) -> None:
        self.index, self.store, self.plans = index, store, plans
        self.problem, self.construction, self.metadata = problem, construction, metadata
        self.n_samples = store.n_samples if n_samples is None else n_samples
        self._event_db: dict[int, float | None] = {}

    def __len__(self) -> int:
        return len(self.plans)

    @property
    def items(self) -> list[tuple[str, str]]:
        """(id, variant) of every item, without reading audio; in training those of epoch 0."""
        plans = (self.plans(0, index) for index in range(len(self)))
        return [(self._id(plan), plan.variant) for plan in plans]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self._item(self.plans(*key), self.store.read)

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict[str, Any]]:
        """A batch; a component that several of its items need (the variants of a row in testing) is read once."""
        read = functools.cache(self.store.read)
        return [self._item(self.plans(*key), read) for key in keys]

    def _item(self, plan: Plan, read: Callable[..., np.ndarray]) -> dict[str, Any]:
        indoor = bool(self.index.indoor[plan.row])
        construction = "add" if plan.remix or plan.speeds else self.construction
        recipe = mm_ipc.recipe(self.problem, plan.variant, indoor, construction, plan.exchanged)
        parts, scale = self._read_parts(plan, recipe, read)
        mixture = _sum([(parts[name], sign) for name, sign in recipe.mixture])
        target = np.stack([_sum([(parts[name], 1) for name in names]) for names in recipe.targets])
        gain = plan.gain if plan.remix is None else plan.gain * peak_gain([mixture, target])
        factor = np.float32(gain * scale)
        item = {
            "mixture": mixture * factor,
            "target": target * factor,
            "id": self._id(plan),
            "variant": plan.variant,
            "degenerate": mm_ipc.is_degenerate(self.problem, plan.variant),
        }
        if self.metadata:
            item["metadata"] = self._metadata(plan.row, read)
        return item

    def _id(self, plan: Plan) -> str:
        """The mix's file name; a remixed row has the one that its dry components' names make up."""
        if plan.remix is None:
            return str(self.index.files["mix"][plan.row])
        clips = [plan.remix.clips[name] for name in ("sp1", "sp2", "scene", "event")]
        return "-".join(Path(self.index.path(*clip)).stem for clip in clips) + ".wav"

    def _read_parts(
        self, plan: Plan, recipe: mm_ipc.Recipe, read: Callable[..., np.ndarray]
    ) -> tuple[dict[str, np.ndarray], float]:
        """(component -> (time,), factor to [-1, 1]), cropped where every talker of the targets is audible."""
        excerpt, scale = self._excerpts(plan, recipe, read)
        talkers = [name for target in recipe.targets for name in target]
        for start in plan.starts:
            parts = {name: excerpt(name, start) for name in talkers}
            if not any(is_silent(part, scale) for part in parts.values()):
                break
        else:
            self._require_audible(plan, talkers)
        others = [name for name in recipe.files if name not in parts]
        return parts | {name: excerpt(name, start) for name in others}, scale

    def _excerpts(self, plan: Plan, recipe: mm_ipc.Recipe, read: Callable[..., np.ndarray]) -> tuple[Excerpt, float]:
        """What gives the excerpts of an item, and the factor that brings them to [-1, 1]."""
        if plan.remix is None and not plan.speeds:
            return lambda name, start: read(plan.row, name, start, self.n_samples), self.store.scale
        scale = np.float32(self.store.scale)

        def read_clip(row: int, name: str) -> np.ndarray:
            return read(row, name, 0, self.store.n_samples) * scale

        def read_excerpt(name: str, start: int) -> np.ndarray:
            speed = plan.speeds.get(name, 1.0)
            n_samples = excerpt_length(self.n_samples, speed)
            if clips is None:
                raw = read(plan.row, name, start, n_samples) * scale
            else:
                raw = clips[name][start : start + n_samples]
            return change_speed(raw, speed, self.n_samples)

        clips = remixed_parts(plan.remix, recipe.files, read_clip, self.store.sample_rate) if plan.remix else None
        return read_excerpt, 1.0

    def _require_audible(self, plan: Plan, talkers: list[str]) -> None:
        """A talker may pause for a crop, but not for a whole clip."""
        for name in talkers:
            row, component = plan.remix.clips[name] if plan.remix else (plan.row, name)
            if is_silent(self.store.read(row, component), self.store.scale):
                raise ValueError(silence_message(str(self.index.path(row, component)), component))

    def _metadata(self, row: int, read: Callable[..., np.ndarray]) -> dict[str, Any]:
        index = self.index
        if row not in self._event_db:
            clips = [read(row, name, 0, self.store.n_samples) for name in ("event", "sp1", "sp2")]
            self._event_db[row] = level_db(clips[0], _sum([(clips[1], 1), (clips[2], 1)]))
        known: dict[str, Any] = {"indoor": bool(index.indoor[row])}
        numbers = {
            "ssr_db": float(index.ssr_db[row]),
            "scene_db": float(index.scene_db[row]),
            "event_db": self._event_db[row],
        }
        known |= {key: value for key, value in numbers.items() if value is not None and not np.isnan(value)}
        classes = {"scene_class": str(index.scene_class[row]), "event_class": str(index.event_class[row])}
        return known | {key: value for key, value in classes.items() if value}


def _sum(terms: Iterable[tuple[np.ndarray, int]]) -> np.ndarray:
    """Signed sum of (time,) arrays as float32; exact for 16-bit samples, whose sums need at most 19 bits."""
    signals = iter(terms)
    first, sign = next(signals)
    total = first.astype(np.float32) if sign > 0 else -first.astype(np.float32)
    for signal, sign in signals:
        (np.add if sign > 0 else np.subtract)(total, signal, out=total)
    return total
