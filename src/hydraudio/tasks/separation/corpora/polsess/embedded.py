"""The embedded corpus: synthetic talkers, scenes, events and rooms in the exact PolSESS layout."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hydraudio.core.generated import generate
from hydraudio.core.parallel import map_in_processes
from hydraudio.sounds.events import INDOOR_EVENTS, OUTDOOR_EVENTS, make_event, place_event
from hydraudio.sounds.formant_synthesis import speak
from hydraudio.sounds.rooms import draw_room, wet_signals
from hydraudio.sounds.scenes import INDOOR_SCENES, OUTDOOR_SCENES, make_scene
from hydraudio.sounds.talkers import Talker, make_talker
from hydraudio.tasks.separation.corpora.polsess.layout import (
    COLUMNS,
    OUTDOOR_COLUMNS,
    SCENE_RANGE_DB,
    SSR_RANGE_DB,
    SUBSETS,
    Components,
    Levels,
    Value,
    csv_path,
    draw_file_names,
    make_folders,
    reverb_columns,
    set_levels,
    write_csv,
    write_row,
)

_log = logging.getLogger(__name__)

GENERATOR_VERSION = 2  # raise it whenever the same arguments give other samples
_MIN_TALKERS = 12

EVENT_RANGE_DB = (-12.0, 2.0)
"""RMS of event over speech mix, both over the whole clip. (The original leaves events at their own level.)"""
SPEECH_RANGE_DB = (-32.0, -22.0)
"""Level of speaker 1 in dBFS."""


@dataclass(frozen=True)
class CorpusSpec:
    """Everything that the samples of an embedded corpus depend on."""

    n_train: int
    n_val: int
    n_test: int
    n_talkers: int
    sample_rate: int
    duration_s: float
    seed: int

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

    def marker(self) -> dict[str, object]:
        return {
            "generator": "hydraudio.tasks.separation.corpora.polsess.embedded",
            "version": GENERATOR_VERSION,
            **asdict(self),
        }


def write_embedded_corpus(
    root: str | Path,
    n_train: int = 720,
    n_val: int = 72,
    n_test: int = 72,
    n_talkers: int = 48,
    sample_rate: int = 8000,
    duration_s: float = 4.0,
    seed: int = 0,
    n_processes: int | None = None,
) -> Path:
    """Write the embedded corpus, or does nothing if it is there already.

    The samples depend on the arguments only, not on `n_processes`. The corpus is made in `<root>.partial` and
    renamed when it is complete, so a root that exists is whole.

    Args:
        root: folder of the corpus; its base name becomes part of the CSV names.
        n_train: rows of the training set, every other one indoors. Likewise `n_val` and `n_test`.
        n_talkers: voices in all; two thirds train, one sixth validates, one sixth tests.
        sample_rate: in Hz.
        duration_s: length of every clip.
        seed: of everything.
        n_processes: None takes the CPUs that there are.

    Returns:
        The root, as an absolute path.

    Raises:
        ValueError: the root exists and holds something else.
    """
    spec = CorpusSpec(n_train, n_val, n_test, n_talkers, sample_rate, duration_s, seed)

    def write(folder: Path) -> None:
        for subset in SUBSETS:
            make_folders(folder, subset)
        jobs = [(subset, row) for subset in SUBSETS for row in range(spec.n_rows(subset))]
        rows = list(map_in_processes(_write_row, (spec, folder), jobs, n_processes))
        for subset in SUBSETS:
            table = folder / subset / csv_path(root, subset).name
            write_csv(table, [row for row in rows if row["subset"] == subset])
        _log.info("wrote %d + %d + %d rows into %s", n_train, n_val, n_test, root)

    return generate(root, spec.marker(), write)


@lru_cache(maxsize=256)
def _talker(index: int, seed: int) -> Talker:
    return make_talker(index, seed)


def _write_row(shared: tuple[CorpusSpec, Path], job: tuple[str, int]) -> dict[str, Value]:
    """Make and write one row; return its line of the table."""
    (spec, root), (subset, row) = shared, job
    seeds = np.random.SeedSequence([spec.seed, 2, SUBSETS.index(subset), row])
    rng = np.random.Generator(np.random.Philox(seeds))
    indoor = row % 2 == 0
    first, second = (int(talker) for talker in rng.choice(spec.talkers(subset), size=2, replace=False))
    scene_class = str(rng.choice(list(INDOOR_SCENES if indoor else OUTDOOR_SCENES)))
    event_class = str(rng.choice(INDOOR_EVENTS if indoor else OUTDOOR_EVENTS))
    levels = _draw_levels(rng)
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
    parts, scene_gain = set_levels(Components(dry[0], dry[1], scene, dry[2], *wet), levels)
    names = draw_file_names(rng, indoor=indoor)
    write_row(root, subset, names, parts, spec.sample_rate)
    number = f"{subset}_{row:05d}"
    place = "indoor" if indoor else "outdoor"
    columns: dict[str, Value] = {
        "subset": subset,
        **_source("speech1", f"synthetic/talker_{first:02d}/utt_{number}_1.wav", spec.n_samples),
        **_source("speech2", f"synthetic/talker_{second:02d}/utt_{number}_2.wav", spec.n_samples),
        "SSR": int(levels.ssr_db),
        **_source("scene", f"synthetic/scene/{place}/{scene_class}/{number}.wav", spec.n_samples),
        "sceneRandomDB": levels.scene_db - SCENE_RANGE_DB[0],
        "sceneOffsetDB": levels.scene_db,
        "sceneVolumeGain": scene_gain,
        **_source("event", f"synthetic/event/{event_class}/{number}.wav", min(len(event), spec.n_samples)),
        **names,
        "sceneClass": scene_class,
        "eventClass": event_class,
        **reverb,
    }
    return {column: columns[column] for column in COLUMNS}


def _draw_levels(rng: np.random.Generator) -> Levels:
    return Levels(
        ssr_db=int(rng.integers(SSR_RANGE_DB[0], SSR_RANGE_DB[1] + 1)),
        scene_db=rng.uniform(*SCENE_RANGE_DB),
        event_db=rng.uniform(*EVENT_RANGE_DB),
    )


def _utterance(spec: CorpusSpec, talker: int, rng: np.random.Generator) -> np.ndarray:
    return speak(_talker(talker, spec.seed), spec.n_samples, spec.sample_rate, rng)


def _source(part: str, path: str, n_samples: int) -> dict[str, Value]:
    """Source path with the 1-based first and last sample that were taken."""
    return {f"{part}OryginalPath": path, f"{part}Start": 1, f"{part}End": n_samples}
