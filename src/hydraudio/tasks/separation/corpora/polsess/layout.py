"""The PolSESS layout on disk, and the arithmetic of its components.

`<root>/<subset>/{clean,mix,scene,event,sp1_reverb,sp2_reverb,ev_reverb}/*.wav` (mono, 16-bit PCM, one length)
and `<root>/<subset>/corpus_<basename(root)>_<subset>_final.csv`. The mix of a row is the sum of its parts:

    mix = sp1 + sp2 + scene + event (+ sp1_reverb + sp2_reverb + ev_reverb indoors)

The parts are rounded to 16 bits first and the mix is their integer sum, so this holds without any residue.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydraudio.audio.io import write_audio
from hydraudio.core.files import csv_text, write_text
from hydraudio.sounds.rooms import Room
from hydraudio.tasks.separation.corpora.polsess.mm_ipc import DRY_OF, INDOOR_PARTS

SUBSETS = ("train", "val", "test")

COLUMN_OF = {
    "mix": "mixFile",
    "sp1": "speaker1File",
    "sp2": "speaker2File",
    "scene": "sceneFile",
    "event": "eventFile",
    "sp1_reverb": "reverbForSpeaker1",
    "sp2_reverb": "reverbForSpeaker2",
    "ev_reverb": "reverbForEvent",
}
"""Component -> the column with its file name. Only these eight columns are required (older tables lack others)."""

FOLDER_OF = {component: component for component in COLUMN_OF} | {"sp1": "clean", "sp2": "clean"}
"""Component -> subfolder that holds its files."""

REVERB_FILE_COLUMNS = ("reverbForSpeaker1", "reverbForSpeaker2", "reverbForEvent")
"""Empty outdoors: a row is indoors if and only if these are filled."""

REVERB_COLUMNS = ("preDelayForEvent", "preDelay1", "preDelay2", "highCut", "diffusion", "decay", "freqDamp")
"""NaN outdoors. Units: pre-delays in s, highCut in Hz, the rest in [0, 1] (MATLAB's `reverberator`)."""


def _source_columns(part: str) -> tuple[str, str, str]:
    return f"{part}OryginalPath", f"{part}Start", f"{part}End"


COLUMNS = (
    "subset",
    *_source_columns("speech1"),
    *_source_columns("speech2"),
    "SSR",
    *_source_columns("scene"),
    *("sceneRandomDB", "sceneOffsetDB", "sceneVolumeGain"),
    *_source_columns("event"),
    *("speaker1File", "speaker2File", "eventFile", "sceneFile"),
    *REVERB_FILE_COLUMNS,
    *("mixFile", "sceneClass", "eventClass"),
    *REVERB_COLUMNS,
)
"""The 34 columns in their order ("Oryginal" is the corpus's own spelling)."""

SSR_RANGE_DB = (-5, 5)
SCENE_RANGE_DB = (-14.0, 0.0)

MAX_PEAK = 0.9999
"""Threshold above which the original rejects a mix; here the whole row is turned down instead."""
_RESCALED_PEAK = 0.95
_FULL_SCALE = 32768
_ALPHABET = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789"))

Value = str | int | float

Parts = Mapping[str, np.ndarray]
"""Component (`mm_ipc.INDOOR_PARTS`) -> (time,) float of one length; the three reverbs are missing outdoors."""


def name_parts(*signals: np.ndarray) -> Parts:
    """Speaker 1, speaker 2, scene, event and, indoors, the reverbs of speaker 1, speaker 2 and event, by component."""
    return dict(zip(INDOOR_PARTS, signals, strict=False))


OUTDOOR_COLUMNS: dict[str, Value] = dict.fromkeys(REVERB_COLUMNS, float("nan"))

# Mean travel time between two `decay` gains in the tank of Dattorro's plate (1997, J. Audio Eng. Soc. 45(9),
# fig. 1), which MATLAB's `reverberator` follows: halves of 10 645 and 10 944 samples at 29 761 Hz, each with
# two gains.
_DECAY_LOOP_S = (10_645 + 10_944) / 4 / 29_761


def csv_path(root: str | Path, subset: str) -> Path:
    """Return `<root>/<subset>/corpus_<basename(root)>_<subset>_final.csv`."""
    root = Path(os.path.abspath(root))
    return root / subset / f"corpus_{root.name}_{subset}_final.csv"


def make_folders(root: Path, subset: str) -> None:
    """Creates the seven subfolders of a subset."""
    for folder in dict.fromkeys(FOLDER_OF.values()):
        (root / subset / folder).mkdir(parents=True, exist_ok=True)


def random_id(rng: np.random.Generator) -> str:
    """16 characters of a-z0-9."""
    return "".join(rng.choice(_ALPHABET, size=16))


def draw_file_names(rng: np.random.Generator, *, indoor: bool) -> dict[str, str]:
    """Return the file names of one row by column; the reverb columns are empty outdoors."""
    speaker1, speaker2, scene, event, reverb = (random_id(rng) for _ in range(5))
    parts = [speaker1, speaker2, scene, event] + ([reverb] if indoor else [])
    return {
        "speaker1File": f"{speaker1}.wav",
        "speaker2File": f"{speaker2}.wav",
        "sceneFile": f"{scene}.wav",
        "eventFile": f"{event}.wav",
        "reverbForSpeaker1": f"sp1_{reverb}.wav" if indoor else "",
        "reverbForSpeaker2": f"sp2_{reverb}.wav" if indoor else "",
        "reverbForEvent": f"ev_{reverb}.wav" if indoor else "",
        "mixFile": "-".join(parts) + ".wav",
    }


def format_csv(rows: Iterable[Mapping[str, Value]]) -> str:
    """Return the CSV text: 15 significant digits, and `NaN`, as MATLAB's writetable writes numbers."""
    lines = []
    for row in rows:
        if set(row) != set(COLUMNS):
            raise ValueError(
                f"row has the columns {sorted(row)}; missing {sorted(set(COLUMNS) - set(row))}, "
                f"unknown {sorted(set(row) - set(COLUMNS))}"
            )
        lines.append([_format_value(row[column]) for column in COLUMNS])
    return csv_text(COLUMNS, lines)


def write_csv(path: Path, rows: Iterable[Mapping[str, Value]]) -> Path:
    """Write the table atomically."""
    return write_text(path, format_csv(rows))


def decay_factor(rt60_s: float) -> float:
    """Return the `decay` column for a reverberation time: the loop gain that falls by 60 dB within `rt60_s`."""
    return float(10.0 ** (-3.0 * _DECAY_LOOP_S / rt60_s))


def reverb_columns(room: Room) -> dict[str, Value]:
    """Return the seven reverb columns of a row indoors."""
    delay1_s, delay2_s, event_s = room.pre_delays_s
    return {
        "preDelayForEvent": event_s,
        "preDelay1": delay1_s,
        "preDelay2": delay2_s,
        "highCut": room.high_cut_hz,
        "diffusion": room.diffusion,
        "decay": decay_factor(room.rt60_s),
        "freqDamp": room.freq_damp,
    }


def _format_value(value: Value) -> str:
    if isinstance(value, float | np.floating):
        return "NaN" if np.isnan(value) else format(float(value), ".15g")
    return str(value)


@dataclass(frozen=True)
class Levels:
    """What is drawn per row.

    Attributes:
        ssr_db: norm of dry speech1 over norm of dry speech2 (integer in the original corpus).
        scene_db: RMS of the scene over RMS of the dry speech mix.
        event_db: RMS of the dry event over RMS of the dry speech mix, both over the whole clip; None leaves
            the event at its own level, as the original corpus does.
    """

    ssr_db: float
    scene_db: float
    event_db: float | None

    @classmethod
    def draw(
        cls,
        ssr_db: tuple[int, int],
        scene_db: tuple[float, float],
        event_db: tuple[float, float] | None,
        rng: np.random.Generator,
    ) -> Levels:
        """Levels between lowest and highest ones, the first in whole decibels."""
        ssr = int(rng.integers(ssr_db[0], ssr_db[1] + 1))
        return cls(ssr, rng.uniform(*scene_db), None if event_db is None else rng.uniform(*event_db))


def table_row(
    subset: str,
    sources: Mapping[str, tuple[str, int, int]],
    levels: Levels,
    scene_range_db: tuple[float, float],
    scene_gain: float,
    columns: Mapping[str, Value],
) -> dict[str, Value]:
    """A line of the table.

    Args:
        subset: that it belongs to.
        sources: speech1, speech2, scene and event -> path of the recording, first and last sample, counted from 1.
        levels: what was drawn.
        scene_range_db: what the level of the scene was drawn from.
        scene_gain: as `set_levels` gives it.
        columns: file names, classes and reverberation.
    """
    found = {"subset": subset, "SSR": int(levels.ssr_db), "sceneVolumeGain": scene_gain, **columns}
    found |= {"sceneRandomDB": levels.scene_db - scene_range_db[0], "sceneOffsetDB": levels.scene_db}
    for part, source in sources.items():
        found |= dict(zip(_source_columns(part), source, strict=True))
    return {column: found[column] for column in COLUMNS}


def set_levels(parts: Parts, levels: Levels) -> tuple[Parts, float]:
    """Scales the parts of a row: speaker 2 against speaker 1, then scene and event against the speech mix.

    A reverb takes the gain of its dry signal. If a part or the mix would exceed 0.9999 the whole row is
    turned down, which leaves all ratios as they are.

    Returns:
        The scaled parts, and the linear gain that the scene got in all (`sceneVolumeGain`).
    """
    gains = {"sp1": 1.0, "event": 1.0}
    gains["sp2"] = _rms(parts, "sp1") / _rms(parts, "sp2") / _ratio(levels.ssr_db)
    speech_rms = _rms({"the speech mix": parts["sp1"] + gains["sp2"] * parts["sp2"]}, "the speech mix")
    gains["scene"] = _ratio(levels.scene_db) * speech_rms / _rms(parts, "scene")
    if levels.event_db is not None:
        gains["event"] = _ratio(levels.event_db) * speech_rms / _rms(parts, "event")
    scaled = {name: gains[DRY_OF.get(name, name)] * part for name, part in parts.items()}
    common = _headroom_gain(scaled)
    return {name: common * part for name, part in scaled.items()}, gains["scene"] * common


def quantise(parts: Parts) -> dict[str, np.ndarray]:
    """Rounds every part to 16 bits and adds their sum, the mix: component -> (time,) int16."""
    codes = {name: np.rint(signal.astype(np.float64) * _FULL_SCALE) for name, signal in parts.items()}
    codes["mix"] = np.sum(list(codes.values()), axis=0)
    for name, code in codes.items():
        if np.abs(code).max() >= _FULL_SCALE:
            raise ValueError(f"{name} exceeds full scale; call set_levels first")
    return {name: code.astype(np.int16) for name, code in codes.items()}


def write_row(root: Path, subset: str, names: Mapping[str, str], parts: Parts, sample_rate: int) -> None:
    """Write the 8 (indoors) or 5 (outdoors) WAV files of a row, the mix last."""
    for component, codes in quantise(parts).items():
        path = root / subset / FOLDER_OF[component] / names[COLUMN_OF[component]]
        write_audio(path, codes.astype(np.float32) / _FULL_SCALE, sample_rate)


def _headroom_gain(parts: Parts) -> float:
    signals = list(parts.values())
    peak = max(float(np.abs(signal).max()) for signal in [*signals, np.sum(signals, axis=0)])
    # half an LSB per part may be added by rounding
    rounding = 0.5 * len(signals) / _FULL_SCALE
    return 1.0 if peak + rounding <= MAX_PEAK else _RESCALED_PEAK / peak


def _rms(parts: Parts, name: str) -> float:
    rms = float(np.sqrt(np.mean(np.square(parts[name], dtype=np.float64))))
    if not rms > 0.0:
        raise ValueError(f"{name} is silent or NaN, so that its level cannot be set; choose another excerpt")
    return rms


def _ratio(level_db: float) -> float:
    return float(10.0 ** (level_db / 20.0))
