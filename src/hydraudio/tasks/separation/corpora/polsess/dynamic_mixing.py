"""Dynamic mixing: training rows whose components come from different rows, at levels of their own.

A remixed row has two talkers, a scene and an event that are each drawn from the rows of the training set, and levels
that are drawn from the distributions of the corpus generator. All variants and problems apply to it as to a row of the
table. Everything is a pure function of (seed, epoch, index).

Zeghidour and Grangier, "Wavesplit", 2021, IEEE/ACM TASLP 29, section III-C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from hydraudio.core.options import check_choice, check_keys, check_range
from hydraudio.core.sampling import generator
from hydraudio.sounds.rooms import draw_room, impulse_response, reverberate
from hydraudio.tasks.separation.corpora.mixtures import is_silent
from hydraudio.tasks.separation.corpora.polsess.index import CorpusIndex, talker_keys
from hydraudio.tasks.separation.corpora.polsess.layout import SCENE_RANGE_DB, SSR_RANGE_DB, Levels
from hydraudio.tasks.separation.corpora.polsess.mm_ipc import DRY_OF

MAX_PEAK = 0.999
"""Largest sample of an item: above it, input and targets are turned down together."""

_REVERBS = {dry: wet for wet, dry in DRY_OF.items()}
_TALKERS = ("sp1", "sp2")

Clip = tuple[int, str]
"""(row, component) of a file."""
ReadClip = Callable[[int, str], np.ndarray]
"""(row, component) -> (time,) float32, the whole clip."""


@dataclass(frozen=True)
class MixingSettings:
    """What is drawn, and from where. The defaults are the distributions of the PolSESS generator.

    Attributes:
        probability: that an item is remixed; else it is the row of the table.
        ssr_db: [lowest, highest] level of speaker 1 over speaker 2 (whole clips, dry).
        ssr_integer: draw whole decibels, as the generator does.
        scene_db: [lowest, highest] RMS of the scene over that of the dry speech mix.
        event_db: the same for the event; None leaves it at the level of its file, as the generator does.
        reverb: "redraw" takes each dry file's own reverberation along, so that indoor talkers come from indoor rows;
            "new" makes one for every remixed item: exponentially decaying noise (`hydraudio.sounds.rooms`) with
            one decay, damping and cut for the whole item and a pre-delay for each source, and talkers from any row.
        distinct: "talker": never twice the same talker, as far as the paths of the recordings tell; "file": never
            twice the same recording, as the generator does.
    """

    probability: float = 1.0
    ssr_db: tuple[float, float] = SSR_RANGE_DB
    ssr_integer: bool = True
    scene_db: tuple[float, float] = SCENE_RANGE_DB
    event_db: tuple[float, float] | None = None
    reverb: str = "redraw"
    distinct: str = "talker"

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(
                f"dynamic_mixing.probability={self.probability} must be above 0 and at most 1; "
                "dynamic_mixing=null turns it off"
            )
        for name in ("ssr_db", "scene_db", "event_db"):
            if check_range(f"dynamic_mixing.{name}", getattr(self, name)) is None and name != "event_db":
                raise ValueError(f"dynamic_mixing.{name}=null must be [lowest, highest] in dB")
        if self.ssr_integer and any(limit != int(limit) for limit in self.ssr_db):
            raise ValueError(
                f"dynamic_mixing.ssr_db={list(self.ssr_db)} must be whole decibels, or set ssr_integer=false"
            )
        check_choice("dynamic_mixing.reverb", self.reverb, ("redraw", "new"))
        check_choice("dynamic_mixing.distinct", self.distinct, ("talker", "file"))


def check_mixing(options: Mapping[str, Any] | None) -> MixingSettings | None:
    """Settings from a configuration: None, or a mapping of `MixingSettings`' attributes ({} for the defaults)."""
    if options is None:
        return None
    names = [field.name for field in fields(MixingSettings)]
    check_keys("dynamic_mixing.", options, names)
    values = {name: _as_tuple(value) for name, value in options.items()}
    return MixingSettings(**values)


@dataclass(frozen=True)
class Remix:
    """One remixed row.

    Attributes:
        clips: component -> the file that plays it. With `room_seed`, there are none for the reverbs.
        levels: of speaker 2, scene and event.
        room_seed: seed of the room that makes the reverbs, None where they are files.
    """

    clips: Mapping[str, Clip]
    levels: Levels
    room_seed: tuple[int, ...] | None = None


class Mixer:
    """Draws remixed rows.

    Args:
        index: the subset's table.
        rows: (n,) the rows that may give components.
        settings: what is drawn.
        seed: of all draws.
        voices: what `voices_of` gives for the table, which takes seconds for a large one; None works it out.

    Raises:
        ValueError: the rows do not have two talkers.
    """

    def __init__(
        self,
        index: CorpusIndex,
        rows: np.ndarray,
        settings: MixingSettings,
        seed: int,
        voices: np.ndarray | None = None,
    ) -> None:
        self.settings, self.seed = settings, seed
        voices = voices_of(index, settings.distinct) if voices is None else voices
        self._talkers, self._scenes = {}, {}
        for room in {bool(room) for room in index.indoor[rows]}:
            self._scenes[room] = rows[index.indoor[rows] == room]
            givers = self._scenes[room] if room and settings.reverb == "redraw" else rows
            self._talkers[room] = _TalkerPool(givers, voices[givers], settings.distinct, str(index.table))
        self._scene_class = index.scene_class
        self._events = _events_by_scene(index, rows)

    def draw(self, epoch: int, index: int, indoor: bool) -> Remix | None:
        """Return the remix of an item that is to be indoors or outdoors; None leaves the item as the table has it."""
        key = (self.seed, epoch, index, 1)
        rng = generator(*key)
        # one draw per decision, always in this order: changing one setting leaves the other draws as they are
        chance, first, second, scene, event, ssr, scene_db, event_db = rng.random(8).tolist()
        if chance >= self.settings.probability:
            return None
        clips: dict[str, Clip] = dict(zip(_TALKERS, self._talkers[indoor].draw(first, second), strict=True))
        scene_row = _pick(self._scenes[indoor], scene)
        clips["scene"] = (scene_row, "scene")
        clips["event"] = (_pick(self._events[indoor, str(self._scene_class[scene_row])], event), "event")
        new_room = indoor and self.settings.reverb == "new"
        if indoor and not new_room:
            clips |= {_REVERBS[name]: (row, _REVERBS[file]) for name, (row, file) in clips.items() if name != "scene"}
        return Remix(clips, self._levels(ssr, scene_db, event_db), (*key, 1) if new_room else None)

    def _levels(self, ssr: float, scene_db: float, event_db: float) -> Levels:
        low, high = self.settings.ssr_db
        return Levels(
            ssr_db=low + int(ssr * (high - low + 1)) if self.settings.ssr_integer else low + (high - low) * ssr,
            scene_db=_between(self.settings.scene_db, scene_db),
            event_db=None if self.settings.event_db is None else _between(self.settings.event_db, event_db),
        )


def remixed_parts(remix: Remix, names: Iterable[str], read: ReadClip, sample_rate: int) -> dict[str, np.ndarray]:
    """Map component -> (time,) float32: the whole clips of a remixed row, at their levels.

    Args:
        remix: what is to be mixed.
        names: the components that are needed.
        read: gives whole clips in [-1, 1].
        sample_rate: in Hz.
    """
    dry: dict[str, np.ndarray] = {}

    def dry_clip(name: str) -> np.ndarray:
        if name not in dry:
            dry[name] = read(*remix.clips[name])
        return dry[name]

    names = list(names)
    sources = {DRY_OF.get(name, name) for name in names}
    gains = _gains(remix.levels, sources, dry_clip)
    parts = {}
    for name in names:
        source = DRY_OF.get(name, name)
        if name in remix.clips:
            part = dry_clip(name)
        else:
            part = _reverberation(remix, source, dry_clip(source), sample_rate)
        parts[name] = part if gains[source] == 1.0 else part * np.float32(gains[source])
    return parts


def peak_gain(signals: Iterable[np.ndarray]) -> float:
    """Return the factor, at most 1, that brings the largest absolute sample of all signals to `MAX_PEAK`."""
    peak = max(max(float(signal.max()), -float(signal.min())) for signal in signals)
    return 1.0 if peak <= MAX_PEAK else MAX_PEAK / peak


def _gains(levels: Levels, sources: set[str], dry_clip: Callable[[str], np.ndarray]) -> dict[str, float]:
    """Linear gain of each dry source; speaker 1 keeps its level, and so does what is silent."""
    gains = {"sp1": 1.0, "sp2": 1.0, "scene": 1.0, "event": 1.0}
    if sources == {"sp1"}:
        return gains
    first, second = dry_clip("sp1"), dry_clip("sp2")
    gains["sp2"] = _gain(second, first, -levels.ssr_db)
    speech = first + np.float32(gains["sp2"]) * second
    if "scene" in sources:
        gains["scene"] = _gain(dry_clip("scene"), speech, levels.scene_db)
    if "event" in sources and levels.event_db is not None:
        gains["event"] = _gain(dry_clip("event"), speech, levels.event_db)
    return gains


def _gain(signal: np.ndarray, reference: np.ndarray, level_db: float) -> float:
    if is_silent(signal) or is_silent(reference):  # dither must not be blown up
        return 1.0
    return 10.0 ** (level_db / 20.0) * _rms(reference) / _rms(signal)


def _rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.dot(signal, signal) / len(signal)))


def _reverberation(remix: Remix, source: str, dry: np.ndarray, sample_rate: int) -> np.ndarray:
    """(time,) the wet signal of a source; the room is the item's, the response the source's."""
    assert remix.room_seed is not None
    place = ("sp1", "sp2", "event").index(source)
    room = draw_room(sample_rate, generator(*remix.room_seed, 0))
    rng = generator(*remix.room_seed, 1 + place)
    response = impulse_response(room, room.pre_delays_s[place], sample_rate, rng)
    gain = 10.0 ** ((room.reverb_db + rng.uniform(-1.5, 1.5)) / 20.0)
    return reverberate(dry, gain * response)


class _TalkerPool:
    """Draws two clips of different talkers with one look-up each.

    Args:
        rows: (n,) rows whose two talkers may be drawn.
        voices: (n, 2) who speaks, as numbers.
    """

    def __init__(self, rows: np.ndarray, voices: np.ndarray, distinct: str, table: str) -> None:
        flat = voices.reshape(-1)
        order = np.argsort(flat, kind="stable")
        self._clips, self._voices = order, flat[order]
        self._rows = rows
        if self._voices[0] == self._voices[-1]:
            remedy = "; distinct=file tells recordings apart instead" if distinct == "talker" else ""
            raise ValueError(f"{table}: dynamic mixing needs at least two talkers, all clips have the same{remedy}")

    def draw(self, first: float, second: float) -> tuple[Clip, Clip]:
        """Clips for two numbers in [0, 1); the second among those of all other talkers."""
        position = int(first * len(self._clips))
        voice = self._voices[position]
        begin, end = np.searchsorted(self._voices, voice, "left"), np.searchsorted(self._voices, voice, "right")
        other = int(second * (len(self._clips) - (end - begin)))
        return self._clip(position), self._clip(other if other < begin else other + (end - begin))

    def _clip(self, position: int) -> Clip:
        row, talker = divmod(int(self._clips[position]), 2)
        return int(self._rows[row]), _TALKERS[talker]


def voices_of(index: CorpusIndex, distinct: str) -> np.ndarray:
    """Return (n, 2) int64: equal numbers for the same talker ("talker") or recording ("file").

    Where the table does not tell, a clip's file stands for its recording, and a recording for its talker.
    """
    paths = index.sources.reshape(-1).tolist()
    names = np.stack([index.files["sp1"], index.files["sp2"]], axis=1).reshape(-1).tolist()
    keys = talker_keys(paths) if distinct == "talker" else [None] * len(paths)
    labels = [
        f"talker {key}" if key is not None else f"recording {path}" if path else f"clip {name}"
        for key, path, name in zip(keys, paths, names, strict=True)
    ]
    return np.unique(labels, return_inverse=True)[1].reshape(-1, 2)


def _events_by_scene(index: CorpusIndex, rows: np.ndarray) -> dict[tuple[bool, str], np.ndarray]:
    """(indoor, scene class) -> rows of that place whose event class the table has with that scene class."""
    indoor, scenes, events = index.indoor[rows], index.scene_class[rows], index.event_class[rows]
    groups = {}
    for room, scene in {(bool(room), str(scene)) for room, scene in zip(indoor, scenes, strict=True)}:
        fitting = np.unique(events[(indoor == room) & (scenes == scene)])
        groups[room, scene] = rows[(indoor == room) & np.isin(events, fitting)]
    return groups


def _as_tuple(value: Any) -> Any:
    """A list of a configuration as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _pick(rows: np.ndarray, uniform: float) -> int:
    return int(rows[int(uniform * len(rows))])


def _between(limits: tuple[float, float], uniform: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * uniform
