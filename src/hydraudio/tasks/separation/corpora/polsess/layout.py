"""The PolSESS layout on disk, and the arithmetic of its components.

`<root>/<subset>/{clean,mix,scene,event,sp1_reverb,sp2_reverb,ev_reverb}/*.wav` (mono, 16-bit PCM, one length)
and `<root>/<subset>/corpus_<basename(root)>_<subset>_final.csv`. The mix of a row is the sum of its parts:

    mix = sp1 + sp2 + scene + event (+ sp1_reverb + sp2_reverb + ev_reverb indoors)

The parts are rounded to 16 bits first and the mix is their integer sum, so this holds without any residue.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from hydraudio.audio.io import write_audio
from hydraudio.core.files import csv_text, write_text
from hydraudio.sounds.rooms import Room

SUBSETS = ("train", "val", "test")

COLUMNS = (
    "subset",
    "speech1OryginalPath",
    "speech1Start",
    "speech1End",
    "speech2OryginalPath",
    "speech2Start",
    "speech2End",
    "SSR",
    "sceneOryginalPath",
    "sceneStart",
    "sceneEnd",
    "sceneRandomDB",
    "sceneOffsetDB",
    "sceneVolumeGain",
    "eventOryginalPath",
    "eventStart",
    "eventEnd",
    "speaker1File",
    "speaker2File",
    "eventFile",
    "sceneFile",
    "reverbForSpeaker1",
    "reverbForSpeaker2",
    "reverbForEvent",
    "mixFile",
    "sceneClass",
    "eventClass",
    "preDelayForEvent",
    "preDelay1",
    "preDelay2",
    "highCut",
    "diffusion",
    "decay",
    "freqDamp",
)
"""The 34 columns in their order ("Oryginal" is the corpus's own spelling)."""

FOLDERS = {
    "mixFile": "mix",
    "speaker1File": "clean",
    "speaker2File": "clean",
    "sceneFile": "scene",
    "eventFile": "event",
    "reverbForSpeaker1": "sp1_reverb",
    "reverbForSpeaker2": "sp2_reverb",
    "reverbForEvent": "ev_reverb",
}
"""Column with a file name -> subfolder that holds the file."""

REVERB_FILE_COLUMNS = ("reverbForSpeaker1", "reverbForSpeaker2", "reverbForEvent")
"""Empty outdoors: a row is indoors if and only if these are filled."""

REVERB_COLUMNS = ("preDelayForEvent", "preDelay1", "preDelay2", "highCut", "diffusion", "decay", "freqDamp")
"""NaN outdoors. Units: pre-delays in s, highCut in Hz, the rest in [0, 1] (MATLAB's `reverberator`)."""

SSR_RANGE_DB = (-5, 5)
SCENE_RANGE_DB = (-14.0, 0.0)

MAX_PEAK = 0.9999
"""Threshold above which the original rejects a mix; here the whole row is turned down instead."""
_RESCALED_PEAK = 0.95
_FULL_SCALE = 32768
_ALPHABET = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789"))

Value = str | int | float

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
    for folder in dict.fromkeys(FOLDERS.values()):
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
class Components:
    """The parts of one row, each (time,) float of one length; the three reverbs are None outdoors."""

    speech1: np.ndarray
    speech2: np.ndarray
    scene: np.ndarray
    event: np.ndarray
    speech1_reverb: np.ndarray | None = None
    speech2_reverb: np.ndarray | None = None
    event_reverb: np.ndarray | None = None

    @property
    def indoor(self) -> bool:
        return self.speech1_reverb is not None

    def present(self) -> dict[str, np.ndarray]:
        """Return the parts that this row has, by field name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in named.items() if part is not None}


_COLUMN_OF_PART = {
    "speech1": "speaker1File",
    "speech2": "speaker2File",
    "scene": "sceneFile",
    "event": "eventFile",
    "speech1_reverb": "reverbForSpeaker1",
    "speech2_reverb": "reverbForSpeaker2",
    "event_reverb": "reverbForEvent",
}


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


def set_levels(parts: Components, levels: Levels) -> tuple[Components, float]:
    """Scale the parts of a row: speech2 against speech1, then scene and event against the speech mix.

    A reverb takes the gain of its dry signal. If a part or the mix would exceed 0.9999 the whole row is
    turned down, which leaves all ratios as they are.

    Returns:
        The scaled parts, and the linear gain that the scene got in all (`sceneVolumeGain`).
    """
    speech2_gain = _rms("speech1", parts.speech1) / _rms("speech2", parts.speech2) / _ratio(levels.ssr_db)
    speech_rms = _rms("the speech mix", parts.speech1 + speech2_gain * parts.speech2)
    scene_gain = _ratio(levels.scene_db) * speech_rms / _rms("scene", parts.scene)
    event_gain = 1.0
    if levels.event_db is not None:
        event_gain = _ratio(levels.event_db) * speech_rms / _rms("event", parts.event)
    scaled = _apply_gains(parts, speech2=speech2_gain, scene=scene_gain, event=event_gain)
    common = _headroom_gain(scaled)
    return _apply_gains(scaled, common=common), scene_gain * common


def quantise(parts: Components) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Round every part to 16 bits and sum: ({part: (time,) int16}, mix (time,) int16)."""
    signals = parts.present()
    codes = {name: np.rint(signal.astype(np.float64) * _FULL_SCALE) for name, signal in signals.items()}
    mix = np.sum(list(codes.values()), axis=0)
    for name, code in [*codes.items(), ("mix", mix)]:
        if np.abs(code).max() >= _FULL_SCALE:
            raise ValueError(f"{name} exceeds full scale; call set_levels first")
    return {name: code.astype(np.int16) for name, code in codes.items()}, mix.astype(np.int16)


def write_row(root: Path, subset: str, names: Mapping[str, str], parts: Components, sample_rate: int) -> None:
    """Write the 8 (indoors) or 5 (outdoors) WAV files of a row, the mix last."""
    codes, mix = quantise(parts)
    for part, code in codes.items():
        column = _COLUMN_OF_PART[part]
        _write_codes(root / subset / FOLDERS[column] / names[column], code, sample_rate)
    _write_codes(root / subset / FOLDERS["mixFile"] / names["mixFile"], mix, sample_rate)


def _write_codes(path: Path, codes: np.ndarray, sample_rate: int) -> None:
    write_audio(path, codes.astype(np.float32) / _FULL_SCALE, sample_rate)


def _headroom_gain(parts: Components) -> float:
    signals = list(parts.present().values())
    peak = max(float(np.abs(signal).max()) for signal in [*signals, np.sum(signals, axis=0)])
    # half an LSB per part may be added by rounding
    rounding = 0.5 * len(signals) / _FULL_SCALE
    return 1.0 if peak + rounding <= MAX_PEAK else _RESCALED_PEAK / peak


def _apply_gains(
    parts: Components, *, speech2: float = 1.0, scene: float = 1.0, event: float = 1.0, common: float = 1.0
) -> Components:
    gains = {
        "speech1": common,
        "speech2": common * speech2,
        "scene": common * scene,
        "event": common * event,
        "speech1_reverb": common,
        "speech2_reverb": common * speech2,
        "event_reverb": common * event,
    }
    return replace(parts, **{name: gains[name] * part for name, part in parts.present().items()})


def _rms(name: str, signal: np.ndarray) -> float:
    rms = float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))
    if not rms > 0.0:
        raise ValueError(f"{name} is silent or NaN, so that its level cannot be set; choose another excerpt")
    return rms


def _ratio(level_db: float) -> float:
    return float(10.0 ** (level_db / 20.0))
