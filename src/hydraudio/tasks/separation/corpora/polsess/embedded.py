"""The embedded corpus: synthetic talkers, scenes, events and rooms in the exact PolSESS layout."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.parallel import map_in_processes
from hydraudio.core.sampling import generator
from hydraudio.sounds.events import INDOOR_EVENTS, OUTDOOR_EVENTS, make_event, place_event
from hydraudio.sounds.formant_synthesis import speak
from hydraudio.sounds.rooms import draw_room, wet_signals
from hydraudio.sounds.scenes import INDOOR_SCENES, OUTDOOR_SCENES, make_scene
from hydraudio.sounds.talkers import make_talker
from hydraudio.tasks.separation.corpora.polsess.layout import (
    OUTDOOR_COLUMNS,
    SCENE_RANGE_DB,
    SSR_RANGE_DB,
    SUBSETS,
    Levels,
    Value,
    csv_path,
    draw_file_names,
    make_folders,
    name_parts,
    reverb_columns,
    set_levels,
    table_row,
    write_csv,
    write_row,
)

_log = logging.getLogger(__name__)

_MIN_TALKERS = 12

EVENT_RANGE_DB = (-12.0, 2.0)
"""RMS of event over speech mix, both over the whole clip. (The original leaves events at their own level.)"""
SPEECH_RANGE_DB = (-32.0, -22.0)
"""Level of speaker 1 in dBFS."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedPolSESS(EmbeddedCorpus):
    """The embedded corpus; the base name of its folder becomes part of the CSV names.

    Attributes:
        n_train: rows of the training set, every other one indoors. Likewise `n_val` and `n_test`.
        n_talkers: voices in all; two thirds train, one sixth validates, one sixth tests.
        sample_rate: in Hz.
        duration_s: length of every clip.
    """

    n_train: int = 720
    n_val: int = 72
    n_test: int = 72
    n_talkers: int = 48
    sample_rate: int = 8000
    duration_s: float = 4.0

    version = 2

    def __post_init__(self) -> None:
        if min(self.n_train, self.n_val, self.n_test) < 1:
            raise ValueError(f"n_train {self.n_train}, n_val {self.n_val} and n_test {self.n_test} must be at least 1")
        if self.n_talkers < _MIN_TALKERS:
            raise ValueError(
                f"n_talkers is {self.n_talkers}, but each subset needs two talkers of its own: "
                f"use at least {_MIN_TALKERS}"
            )
        if self.sample_rate < 8000:
            raise ValueError(f"sample_rate is {self.sample_rate} Hz; the synthetic voices need at least 8000 Hz")
        if self.duration_s < 0.5:
            raise ValueError(f"duration_s is {self.duration_s} s, but a clip needs at least 0.5 s")

    @property
    def n_samples(self) -> int:
        return round(self.duration_s * self.sample_rate)

    def n_rows(self, subset: str) -> int:
        return {"train": self.n_train, "val": self.n_val, "test": self.n_test}[subset]

    def talkers(self, subset: str) -> list[int]:
        """Talkers of a subset: four of six train, one validates, one tests; no talker is in two subsets."""
        places = {"train": (0, 1, 2, 3), "val": (4,), "test": (5,)}[subset]
        return [index for index in range(self.n_talkers) if index % 6 in places]

    def write(self, root: Path) -> None:
        for subset in SUBSETS:
            make_folders(root, subset)
        jobs = [(subset, row) for subset in SUBSETS for row in range(self.n_rows(subset))]
        rows = list(map_in_processes(_write_row, (self, root), jobs, self.n_processes))
        for subset in SUBSETS:
            write_csv(csv_path(root, subset), [row for row in rows if row["subset"] == subset])
        _log.info("wrote %d + %d + %d rows of %s", self.n_train, self.n_val, self.n_test, root.name)


def _write_row(shared: tuple[EmbeddedPolSESS, Path], job: tuple[str, int]) -> dict[str, Value]:
    """Make and write one row; return its line of the table."""
    (spec, root), (subset, row) = shared, job
    rng = generator(spec.seed, 2, SUBSETS.index(subset), row)
    indoor = row % 2 == 0
    first, second = (int(talker) for talker in rng.choice(spec.talkers(subset), size=2, replace=False))
    scene_class = str(rng.choice(list(INDOOR_SCENES if indoor else OUTDOOR_SCENES)))
    event_class = str(rng.choice(INDOOR_EVENTS if indoor else OUTDOOR_EVENTS))
    levels = Levels.draw(SSR_RANGE_DB, SCENE_RANGE_DB, EVENT_RANGE_DB, rng)
    event = make_event(event_class, spec.sample_rate, rng)
    dry = (
        _utterance(spec, first, rng) * 10.0 ** (rng.uniform(*SPEECH_RANGE_DB) / 20.0),
        _utterance(spec, second, rng),
        place_event(event, spec.n_samples, rng),
    )
    wet: list[np.ndarray] = []
    reverb = OUTDOOR_COLUMNS
    if indoor:
        room = draw_room(spec.sample_rate, rng)
        wet = wet_signals(room, dry, spec.sample_rate, rng)
        reverb = reverb_columns(room)
    scene = make_scene(scene_class, spec.n_samples, spec.sample_rate, rng)
    parts, scene_gain = set_levels(name_parts(dry[0], dry[1], scene, dry[2], *wet), levels)
    names = draw_file_names(rng, indoor=indoor)
    write_row(root, subset, names, parts, spec.sample_rate)
    number, place, n_samples = f"{subset}_{row:05d}", "indoor" if indoor else "outdoor", spec.n_samples
    sources = {
        "speech1": (f"synthetic/talker_{first:02d}/utt_{number}_1.wav", 1, n_samples),
        "speech2": (f"synthetic/talker_{second:02d}/utt_{number}_2.wav", 1, n_samples),
        "scene": (f"synthetic/scene/{place}/{scene_class}/{number}.wav", 1, n_samples),
        "event": (f"synthetic/event/{event_class}/{number}.wav", 1, min(len(event), n_samples)),
    }
    columns = {**names, "sceneClass": scene_class, "eventClass": event_class, **reverb}
    return table_row(subset, sources, levels, SCENE_RANGE_DB, scene_gain, columns)


def _utterance(spec: EmbeddedPolSESS, talker: int, rng: np.random.Generator) -> np.ndarray:
    return speak(make_talker(talker, spec.seed), spec.n_samples, spec.sample_rate, rng)
