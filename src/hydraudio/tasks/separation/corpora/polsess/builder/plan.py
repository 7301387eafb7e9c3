"""What the corpus builder draws from and how: its arguments, and the split of the source recordings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hydraudio.core.sampling import generator
from hydraudio.tasks.separation.corpora.polsess.builder.excerpts import require_audible
from hydraudio.tasks.separation.corpora.polsess.builder.sources import (
    Recording,
    check_talkers,
    list_classes,
    read_matches,
    read_split_file,
    split_items,
    split_talkers,
    voice_of,
)
from hydraudio.tasks.separation.corpora.polsess.layout import SCENE_RANGE_DB, SSR_RANGE_DB, SUBSETS

ROOMS = ("pyroomacoustics", "synthetic")
SPLITS = ("speaker", "file")
PLACES = ("indoor", "outdoor")

Classes = dict[str, list[Recording]]
Range = tuple[float, float]


@dataclass(frozen=True)
class BuildConfig:
    """What a corpus is built from and how.

    Attributes:
        speech: one folder per talker.
        scenes: `{indoor,outdoor}/<class>/`.
        events: `<class>/`.
        rows: rows per subset.
        sample_rate: of the corpus, in Hz.
        duration_s: of every clip.
        ssr_db: lowest and highest speaker-to-speaker ratio; whole numbers are drawn.
        scene_db: range of the scene's RMS over the speech mix's.
        event_db: range of the event's RMS over the speech mix's, both over the clip; None keeps natural levels.
        indoor: share of indoor rows.
        room: "pyroomacoustics" (image sources) or "synthetic" (statistical, fast).
        rt60_s: range of the image-source rooms' reverberation time.
        distance_m: range of their distances from source to microphone.
        split: "speaker" (talkers are disjoint) or "file" (talkers may be shared, files are not).
        fractions: shares of talkers, or of files, per subset; scenes and events are always split by file.
        talkers: talkers per subset by name, instead of a seeded split.
        split_file: CSV with the columns name and split, instead of a seeded split.
        test_from_val: share of the validation talkers that test if split_file or talkers name no test talkers.
        never_pair_prefixes: two talkers whose names start with the same of these are never in one row.
        match: CSV matrix of the event classes that may occur in each scene class.
        seed: of everything.
    """

    speech: Path
    scenes: Path
    events: Path
    rows: Mapping[str, int]
    sample_rate: int = 8000
    duration_s: float = 4.0
    ssr_db: tuple[int, int] = SSR_RANGE_DB
    scene_db: Range = SCENE_RANGE_DB
    event_db: Range | None = (-15.0, 0.0)
    indoor: float = 0.5
    room: str = "pyroomacoustics"
    rt60_s: Range = (0.2, 0.6)
    distance_m: Range = (0.4, 1.6)
    split: str = "speaker"
    fractions: Mapping[str, float] = field(default_factory=lambda: {"train": 0.8, "val": 0.1, "test": 0.1})
    talkers: Mapping[str, tuple[str, ...]] | None = None
    split_file: Path | None = None
    test_from_val: float = 0.5
    never_pair_prefixes: tuple[str, ...] = ()
    match: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("room", ROOMS), ("split", SPLITS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is '{getattr(self, name)}'; choose from {', '.join(choices)}")
        for name in ("ssr_db", "scene_db", "event_db", "rt60_s", "distance_m"):
            limits = getattr(self, name)
            if limits is not None and not limits[0] <= limits[1]:
                raise ValueError(f"{name} is {limits}, but the first number must not exceed the second")
        if self.rt60_s[0] < 0.1:
            raise ValueError(f"rt60_s is {self.rt60_s}, but a simulated room needs 0.1 s at least")
        if not 0.1 <= self.distance_m[0] <= 1.0:
            raise ValueError(f"distance_m is {self.distance_m}; the first must be 0.1 to 1.0 m to fit into any room")
        if set(self.rows) - set(SUBSETS) or not any(count > 0 for count in self.rows.values()):
            raise ValueError(f"rows is {dict(self.rows)}; give counts for train, val and test, one above 0")
        if not all(self.fractions.get(subset, 0.0) > 0.0 for subset in self.subsets):
            raise ValueError(f"fractions are {dict(self.fractions)}; give a share above 0 to {', '.join(self.subsets)}")
        if not 0.0 <= self.indoor <= 1.0 or not 0.0 <= self.test_from_val < 1.0:
            raise ValueError(
                f"indoor is {self.indoor} and test_from_val {self.test_from_val}; both are shares in [0, 1)"
            )
        if self.sample_rate <= 0 or self.n_samples < self.sample_rate // 2:
            raise ValueError(f"clips of {self.duration_s} s at {self.sample_rate} Hz; 0.5 s is the least")
        if self.talkers is not None and self.split_file is not None:
            raise ValueError("talkers and split_file both name the talkers of the subsets; give one of them")
        if self.split == "file" and (self.talkers is not None or self.split_file is not None):
            raise ValueError("a file-level split shares talkers; drop talkers/split_file or use split 'speaker'")

    @property
    def n_samples(self) -> int:
        return round(self.duration_s * self.sample_rate)

    @property
    def subsets(self) -> list[str]:
        return [subset for subset in SUBSETS if self.rows.get(subset, 0) > 0]

    def is_indoor(self, row: int) -> bool:
        """Spreads the indoor rows evenly."""
        return math.floor((row + 1) * self.indoor) > math.floor(row * self.indoor)


@dataclass(frozen=True)
class Pool:
    """The recordings that one subset draws from."""

    talkers: Classes
    scenes: dict[str, Classes]  # by place
    events: Classes


@dataclass(frozen=True)
class Plan:
    """What the worker processes need."""

    config: BuildConfig
    root: Path
    pools: dict[str, Pool]
    matches: dict[str, frozenset[str]] | None


def make_plan(config: BuildConfig, root: Path) -> Plan:
    """List and splits the sources.

    Raises:
        ValueError, FileNotFoundError: sources that are missing, unreadable, or too few for the subsets.
    """
    plan = Plan(config, root, _pools(config), read_matches(config.match) if config.match else None)
    for subset in config.subsets:
        _check_pool(plan, subset)
    # now, because without such a file the split is another one and every row changes
    require_audible(_scenes_and_events(plan))
    return plan


def _pools(config: BuildConfig) -> dict[str, Pool]:
    talkers = _split_talkers(config, list_classes(config.speech, config.speech))
    scenes = {place: _scene_classes(config, place) for place in _places(config)}
    split_scenes = {place: _split_files(config, classes, place) for place, classes in scenes.items()}
    events = _split_files(config, list_classes(config.events, config.events), "event")
    return {
        subset: Pool(talkers[subset], {place: split_scenes[place][subset] for place in scenes}, events[subset])
        for subset in SUBSETS
    }


def _places(config: BuildConfig) -> list[str]:
    wanted = {"indoor": config.indoor > 0.0, "outdoor": config.indoor < 1.0}
    return [place for place in PLACES if wanted[place]]


def _scene_classes(config: BuildConfig, place: str) -> Classes:
    folder = config.scenes / place
    if not folder.is_dir():
        share = 0 if place == "indoor" else 1
        raise FileNotFoundError(
            f"{folder}: no such folder; scenes lie in indoor/<class>/ and outdoor/<class>/. For a corpus without "
            f"{place} rows set the indoor share to {share}"
        )
    return list_classes(folder, config.scenes)


def make_generator(config: BuildConfig, *numbers: int) -> np.random.Generator:
    return generator(config.seed, *numbers)


def _split_talkers(config: BuildConfig, talkers: Classes) -> dict[str, Classes]:
    if config.split == "file":
        return _split_files(config, talkers, "speech")
    rng = make_generator(config, 1)
    if config.split_file is not None:
        names = read_split_file(config.split_file, list(talkers))
    elif config.talkers is not None:
        names = {subset: list(config.talkers.get(subset, ())) for subset in SUBSETS}
        check_talkers(names, list(talkers), "talkers")
    else:
        names = split_talkers(list(talkers), config.fractions, config.never_pair_prefixes, rng)
    if not names["test"] and config.rows.get("test", 0) > 0:
        shares = {"val": 1.0 - config.test_from_val, "test": config.test_from_val}
        names |= split_talkers(names["val"], shares, config.never_pair_prefixes, rng) | {"train": names["train"]}
    return {subset: {name: talkers[name] for name in sorted(names[subset])} for subset in SUBSETS}


def _split_files(config: BuildConfig, classes: Classes, kind: str) -> dict[str, Classes]:
    """Split the files of each class; a class with too few files misses in test, then in val."""
    number = {"speech": 2, "indoor": 3, "outdoor": 4, "event": 5}[kind]
    split: dict[str, Classes] = {subset: {} for subset in SUBSETS}
    for index, (name, recordings) in enumerate(sorted(classes.items())):
        for subset, files in split_items(recordings, config.fractions, make_generator(config, number, index)).items():
            if files:
                split[subset][name] = sorted(files, key=lambda recording: recording.name)
    return split


def _check_pool(plan: Plan, subset: str) -> None:
    config, pool = plan.config, plan.pools[subset]
    voices = {voice_of(talker, config.never_pair_prefixes) for talker in pool.talkers}
    if len(voices) < 2:
        raise ValueError(
            f"{config.speech}: subset {subset} has {len(pool.talkers)} talkers ({', '.join(pool.talkers) or 'none'}) "
            f"with {len(voices)} distinct voices, but a row needs two; give it more talkers, change the "
            "fractions, or drop a prefix that must not be paired"
        )
    for place, classes in pool.scenes.items():
        if not classes:
            raise ValueError(
                f"{config.scenes / place}: no file is left for {subset}; add files, so that a class has three"
            )
        for scene_class in classes:
            if not event_classes(plan, pool, scene_class):
                raise ValueError(
                    f"{config.match or config.events}: no event class of {subset} fits the scene class "
                    f"'{scene_class}'; add events, or a 1 in its line of the match file"
                )


def _scenes_and_events(plan: Plan) -> list[Recording]:
    classes = [
        each
        for pool in (plan.pools[subset] for subset in plan.config.subsets)
        for each in (*pool.scenes.values(), pool.events)
    ]
    return [recording for each in classes for recordings in each.values() for recording in recordings]


def event_classes(plan: Plan, pool: Pool, scene_class: str) -> list[str]:
    if plan.matches is None:
        return list(pool.events)
    if scene_class not in plan.matches:
        raise ValueError(f"{plan.config.match}: has no line for the scene class '{scene_class}'; add it")
    return [name for name in pool.events if name in plan.matches[scene_class]]
