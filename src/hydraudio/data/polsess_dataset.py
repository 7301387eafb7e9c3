"""Items of a PolSESS subset: what is drawn about each, how it is read and mixed, and how items become a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hydraudio.data import mm_ipc
from hydraudio.data.polsess_index import CorpusIndex
from hydraudio.data.polsess_store import Store, is_silent, silence_message

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
    """

    row: int
    variant: str
    exchanged: bool = False
    gain: float = 1.0
    starts: tuple[int, ...] = (0,)


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
    ) -> None:
        self.rows, self.indoor, self.seed = rows, indoor, seed
        self.swap_talkers, self.flip_polarity = swap_talkers, flip_polarity
        self.gain_db, self.last_start = gain_db, last_start
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
        return Plan(
            row=int(self.rows[index]),
            variant=mm_ipc.pick_variant(*self.choices[bool(self.indoor[index])], variant),
            exchanged=bool(swap < self.swap_talkers),
            gain=-gain if flip < self.flip_polarity else gain,
            starts=tuple(int(crop * (self.last_start + 1)) for crop in crops),
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
        task: ES, EB or SB.
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
        task: str,
        construction: str = "auto",
        n_samples: int | None = None,
        metadata: bool = False,
    ) -> None:
        self.index, self.store, self.plans = index, store, plans
        self.task, self.construction, self.metadata = task, construction, metadata
        self.n_samples = store.n_samples if n_samples is None else n_samples
        self._event_db: dict[int, float | None] = {}

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self._item(self.plans(*key), self.store.read)

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict[str, Any]]:
        """A batch; a component that several of its items need (the variants of a row in testing) is read once."""
        read = functools.cache(self.store.read)
        return [self._item(self.plans(*key), read) for key in keys]

    def _item(self, plan: Plan, read: Callable[..., np.ndarray]) -> dict[str, Any]:
        row, indoor = plan.row, bool(self.index.indoor[plan.row])
        recipe = mm_ipc.recipe(self.task, plan.variant, indoor, self.construction, plan.exchanged)
        parts = self._read_parts(plan, recipe, read)
        factor = np.float32(plan.gain * self.store.scale)
        target = np.stack([_sum([(parts[name], 1) for name in names]) for names in recipe.targets])
        item = {
            "mixture": _sum([(parts[name], sign) for name, sign in recipe.mixture]) * factor,
            "target": target * factor,
            "lengths": self.n_samples,
            "id": str(self.index.files["mix"][row]),
            "variant": plan.variant,
            "degenerate": mm_ipc.is_degenerate(self.task, plan.variant),
        }
        if self.metadata:
            item["metadata"] = self._metadata(row, read)
        return item

    def _read_parts(self, plan: Plan, recipe: mm_ipc.Recipe, read: Callable[..., np.ndarray]) -> dict[str, np.ndarray]:
        """Component -> (time,), cropped at the first start at which every talker of the targets is audible."""
        talkers = [name for target in recipe.targets for name in target]
        for start in plan.starts:
            parts = {name: read(plan.row, name, start, self.n_samples) for name in talkers}
            if not any(is_silent(part, self.store.scale) for part in parts.values()):
                break
        else:
            self._require_audible(plan.row, talkers)
        others = [name for name in recipe.files if name not in parts]
        return parts | {name: read(plan.row, name, start, self.n_samples) for name in others}

    def _require_audible(self, row: int, talkers: list[str]) -> None:
        """A talker may pause for a crop, but not for a whole clip."""
        for name in talkers:
            if is_silent(self.store.read(row, name), self.store.scale):
                raise ValueError(silence_message(str(self.index.path(row, name)), name))

    def _metadata(self, row: int, read: Callable[..., np.ndarray]) -> dict[str, Any]:
        index = self.index
        if row not in self._event_db:
            clips = [read(row, name, 0, self.store.n_samples) for name in ("event", "sp1", "sp2")]
            self._event_db[row] = _level_db(clips[0], _sum([(clips[1], 1), (clips[2], 1)]))
        known: dict[str, Any] = {"indoor": bool(index.indoor[row])}
        numbers = {
            "ssr_db": float(index.ssr_db[row]),
            "scene_db": float(index.scene_db[row]),
            "event_db": self._event_db[row],
        }
        known |= {key: value for key, value in numbers.items() if value is not None and not np.isnan(value)}
        classes = {"scene_class": str(index.scene_class[row]), "event_class": str(index.event_class[row])}
        return known | {key: value for key, value in classes.items() if value}


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks items of one length.

    Returns:
        mixture (batch, time) and target (batch, n_sources, time) float32, lengths (batch,) int64, id and
        variant (lists), degenerate (batch,) bool, and metadata (a list of dicts) where the items have it.
    """
    batch = {
        "mixture": torch.from_numpy(np.stack([item["mixture"] for item in items])),
        "target": torch.from_numpy(np.stack([item["target"] for item in items])),
        "lengths": torch.tensor([item["lengths"] for item in items]),
        "id": [item["id"] for item in items],
        "variant": [item["variant"] for item in items],
        "degenerate": torch.tensor([item["degenerate"] for item in items]),
    }
    if "metadata" in items[0]:
        batch["metadata"] = [item["metadata"] for item in items]
    return batch


def _sum(terms: Iterable[tuple[np.ndarray, int]]) -> np.ndarray:
    """Signed sum of (time,) arrays as float32; exact for 16-bit samples, whose sums need at most 19 bits."""
    signals = iter(terms)
    first, sign = next(signals)
    total = first.astype(np.float32) if sign > 0 else -first.astype(np.float32)
    for signal, sign in signals:
        (np.add if sign > 0 else np.subtract)(total, signal, out=total)
    return total


def _level_db(signal: np.ndarray, reference: np.ndarray) -> float | None:
    """Energy of (time,) over that of the reference, in dB; None where either is zero."""
    energies = [float(np.square(each, dtype=np.float64).sum()) for each in (signal, reference)]
    return float(10.0 * np.log10(energies[0] / energies[1])) if all(energies) else None
