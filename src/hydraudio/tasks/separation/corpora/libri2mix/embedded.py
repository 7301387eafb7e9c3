"""The embedded Libri2Mix: synthetic talkers and scenes in the exact layout of the LibriMix generator.

Folders, file names, both kinds of tables and the levels follow the generator (Cosentino et al. 2020, section 2): each
source has -33 to -25 dB, the noise 5 dB less, everything is turned down together where the sum would exceed 0.9. Where
the generator measures loudness (LUFS), this one takes the RMS over the parts that sound.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydraudio.audio.io import write_audio
from hydraudio.core.files import write_csv
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.parallel import map_in_processes
from hydraudio.core.sampling import generator
from hydraudio.sounds.formant_synthesis import speak
from hydraudio.sounds.scenes import INDOOR_SCENES, OUTDOOR_SCENES, make_scene
from hydraudio.sounds.talkers import Talker, make_talker
from hydraudio.tasks.separation.corpora.libri2mix.index import OFFICIAL_NAMES, PARTS_OF

_log = logging.getLogger(__name__)

SPEECH_RANGE_DB = (-33.0, -25.0)
NOISE_RANGE_DB = (-38.0, -30.0)
MAX_PEAK = 0.9
STALE_ROOT = "/corpora/Libri2Mix"
"""The tables hold absolute paths of the place where the corpus was generated, which is rarely where it lies."""

_MIN_TALKERS = 12
_FIRST_TALKER = 1000  # identifiers are numbers, as in LibriSpeech
_SCENES = tuple(sorted({*INDOOR_SCENES, *OUTDOOR_SCENES}))
_HIGHEST_MALE_F0_HZ = 155.0

Line = dict[str, str | int | float]


@dataclass(frozen=True, kw_only=True)
class EmbeddedLibri2Mix(EmbeddedCorpus):
    """The embedded corpus; its folder stands for `Libri2Mix`.

    Attributes:
        n_train: mixtures of train-100. Likewise `n_val` (dev) and `n_test` (test).
        n_train_360: mixtures of train-360; 0 leaves it out.
        n_talkers: voices in all; two thirds train, one sixth validates, one sixth tests.
        sample_rate: in Hz, whole kHz.
        modes: "min" (mixtures end with the shorter utterance), "max" (with the longer one), or both.
        min_s: length of the shortest utterance.
        max_s: length of the longest utterance.
    """

    n_train: int = 480
    n_val: int = 48
    n_test: int = 48
    n_train_360: int = 0
    n_talkers: int = 48
    sample_rate: int = 8000
    modes: Sequence[str] = ("min",)
    min_s: float = 2.0
    max_s: float = 5.0

    def __post_init__(self) -> None:
        if min(self.n_train, self.n_val, self.n_test) < 1 or self.n_train_360 < 0:
            raise ValueError(
                f"n_train {self.n_train}, n_val {self.n_val} and n_test {self.n_test} must be at least 1, "
                f"n_train_360 {self.n_train_360} at least 0"
            )
        if self.n_talkers < _MIN_TALKERS:
            raise ValueError(f"n_talkers is {self.n_talkers}, but two are needed per subset: use at least 12")
        if self.sample_rate < 8000 or self.sample_rate % 1000:
            raise ValueError(f"sample_rate is {self.sample_rate} Hz; it must be whole kHz, at least 8000 Hz")
        if not self.modes or not set(self.modes) <= {"min", "max"}:
            raise ValueError(f"modes is {list(self.modes)}; choose min, max or both")
        if not 0.5 <= self.min_s <= self.max_s:
            raise ValueError(f"min_s {self.min_s} and max_s {self.max_s} must be at least 0.5 s, in this order")

    def n_rows(self) -> dict[str, int]:
        """Count the rows of every subset that is written."""
        counts = {"train-100": self.n_train, "train-360": self.n_train_360, "dev": self.n_val, "test": self.n_test}
        return {subset: count for subset, count in counts.items() if count}

    def talkers(self, subset: str) -> list[int]:
        """Four of six talkers train (two of them in train-360, if there is one), one validates, one tests."""
        train = (0, 1) if self.n_train_360 else (0, 1, 2, 3)
        places = {"train-100": train, "train-360": (2, 3), "dev": (4,), "test": (5,)}[subset]
        return [index for index in range(self.n_talkers) if index % 6 in places]

    def write(self, root: Path) -> None:
        _make_folders(self, root)
        jobs = [(subset, row) for subset, count in self.n_rows().items() for row in range(count)]
        rows = list(map_in_processes(_write_row, (self, root), jobs, self.n_processes))
        for subset in self.n_rows():
            _write_tables(self, root, subset, [row for row in rows if row.subset == subset])
        _log.info("wrote %s mixtures of %s", " + ".join(str(count) for count in self.n_rows().values()), root.name)


def audio_folder(root: Path, sample_rate: int, mode: str) -> Path:
    """Return `<root>/wav8k/min`, likewise for other rates and modes."""
    return root / f"wav{sample_rate // 1000}k" / mode


@dataclass(frozen=True)
class _Row:
    """What the tables say about a mixture."""

    subset: str
    name: str
    talkers: tuple[Talker, Talker]
    gains: Mapping[str, float]
    lengths: Mapping[str, int]
    snrs_db: Mapping[tuple[str, str], Mapping[str, float]]


def _make_folders(spec: EmbeddedLibri2Mix, root: Path) -> None:
    (root / "metadata").mkdir()
    for mode in spec.modes:
        base = audio_folder(root, spec.sample_rate, mode)
        (base / "metadata").mkdir(parents=True)
        for subset in spec.n_rows():
            for folder in ("s1", "s2", "noise", *PARTS_OF):
                (base / subset / folder).mkdir(parents=True)


def _write_row(shared: tuple[EmbeddedLibri2Mix, Path], job: tuple[str, int]) -> _Row:
    """Make and write one mixture in all modes."""
    (spec, root), (subset, row) = shared, job
    place = ("train-100", "train-360", "dev", "test").index(subset)
    rng = generator(spec.seed, 3, place, row)
    numbers = [int(talker) for talker in rng.choice(spec.talkers(subset), size=2, replace=False)]
    talkers = (make_talker(numbers[0], spec.seed), make_talker(numbers[1], spec.seed))
    name = "_".join(f"{_FIRST_TALKER + number}-{place}-{2 * row + k:04d}" for k, number in enumerate(numbers))
    parts = _make_parts(spec, talkers, rng)
    gains = _draw_gains(parts, rng)
    parts = {key: gains[key] * part for key, part in parts.items()}
    snrs_db = {}
    for mode in spec.modes:
        fitted = _fit_lengths(parts, mode)
        folder = audio_folder(root, spec.sample_rate, mode) / subset
        for key, part in fitted.items():
            write_audio(folder / key / f"{name}.wav", part, spec.sample_rate)
        for kind, keys in PARTS_OF.items():
            mixture = np.sum([fitted[key] for key in keys], axis=0)
            write_audio(folder / kind / f"{name}.wav", mixture, spec.sample_rate)
            snrs_db[mode, kind] = {key: _snr_db(fitted[key], mixture) for key in keys}
    lengths = {mode: len(_fit_lengths(parts, mode)["s1"]) for mode in spec.modes}
    return _Row(subset, name, talkers, gains, lengths, snrs_db)


def _make_parts(
    spec: EmbeddedLibri2Mix, talkers: tuple[Talker, Talker], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Two utterances of their own lengths, RMS 1, and noise as long as the longer one."""
    n_samples = [round(length_s * spec.sample_rate) for length_s in rng.uniform(spec.min_s, spec.max_s, 2)]
    sources = [speak(talker, n, spec.sample_rate, rng) for talker, n in zip(talkers, n_samples, strict=True)]
    noise = make_scene(str(rng.choice(_SCENES)), max(n_samples), spec.sample_rate, rng)
    return {"s1": sources[0], "s2": sources[1], "noise": noise / np.sqrt(np.mean(np.square(noise)))}


def _draw_gains(parts: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, float]:
    """Linear gain of every part."""
    ranges_db = {"s1": SPEECH_RANGE_DB, "s2": SPEECH_RANGE_DB, "noise": NOISE_RANGE_DB}
    gains = {key: float(10.0 ** (rng.uniform(*range_db) / 20.0)) for key, range_db in ranges_db.items()}
    longest = _fit_lengths({key: gains[key] * part for key, part in parts.items()}, "max")
    peaks = [np.abs(np.sum([longest[key] for key in keys], axis=0)).max() for keys in PARTS_OF.values()]
    peak = max(*peaks, *(np.abs(part).max() for part in longest.values()))
    return {key: gain * min(1.0, MAX_PEAK / float(peak)) for key, gain in gains.items()}


def _fit_lengths(parts: Mapping[str, np.ndarray], mode: str) -> dict[str, np.ndarray]:
    """All parts cut to the shortest ("min") or padded with zeros to the longest ("max")."""
    n_samples = (min if mode == "min" else max)(len(part) for part in parts.values())
    return {key: np.pad(part, (0, max(n_samples - len(part), 0)))[:n_samples] for key, part in parts.items()}


def _snr_db(part: np.ndarray, mixture: np.ndarray) -> float:
    """Power of a part over that of everything else in the mixture, in dB."""
    rest = np.mean(np.square(mixture - part, dtype=np.float64))
    return float(10.0 * np.log10(np.mean(np.square(part, dtype=np.float64)) / (rest + 1e-10) + 1e-10))


# --- tables ---


def _write_tables(spec: EmbeddedLibri2Mix, root: Path, subset: str, rows: Sequence[_Row]) -> None:
    for mode in spec.modes:
        folder = audio_folder(root, spec.sample_rate, mode) / "metadata"
        for kind in PARTS_OF:
            mixtures = [_mixture_line(spec, row, mode, kind) for row in rows]
            write_csv(folder / f"mixture_{subset}_{kind}.csv", list(mixtures[0]), mixtures)
            metrics = [_metrics_line(row, mode, kind) for row in rows]
            write_csv(folder / f"metrics_{subset}_{kind}.csv", list(metrics[0]), metrics)
    name = OFFICIAL_NAMES[subset]
    for ending, line_of in (("", _generator_line), ("_info", _info_line)):
        lines = [line_of(row) for row in rows]
        write_csv(root / "metadata" / f"libri2mix_{name}{ending}.csv", list(lines[0]), lines)


def _mixture_line(spec: EmbeddedLibri2Mix, row: _Row, mode: str, kind: str) -> Line:
    folder = audio_folder(Path(STALE_ROOT), spec.sample_rate, mode) / row.subset
    columns = {"mixture_path": kind} | {_column(key, "path"): key for key in PARTS_OF[kind]}
    paths = {column: (folder / key / f"{row.name}.wav").as_posix() for column, key in columns.items()}
    return {"mixture_ID": row.name, **paths, "length": row.lengths[mode]}


def _metrics_line(row: _Row, mode: str, kind: str) -> Line:
    snrs_db = row.snrs_db[mode, kind]
    return {"mixture_ID": row.name} | {_column(key, "SNR"): snr_db for key, snr_db in snrs_db.items()}


def _generator_line(row: _Row) -> Line:
    line: Line = {"mixture_ID": row.name}
    for key, utterance in zip(("s1", "s2"), row.name.split("_"), strict=True):
        talker, chapter, _ = utterance.split("-")
        path = f"{OFFICIAL_NAMES[row.subset]}/{talker}/{chapter}/{utterance}.flac"
        line |= {_column(key, "path"): path, _column(key, "gain"): row.gains[key]}
    return line | {"noise_path": f"synthetic/{row.name}.wav", "noise_gain": row.gains["noise"]}


def _info_line(row: _Row) -> Line:
    line: Line = {"mixture_ID": row.name}
    for number, (utterance, talker) in enumerate(zip(row.name.split("_"), row.talkers, strict=True), start=1):
        line[f"speaker_{number}_ID"] = utterance.split("-")[0]
        line[f"speaker_{number}_sex"] = "M" if talker.f0_hz < _HIGHEST_MALE_F0_HZ else "F"
    return line


def _column(key: str, ending: str) -> str:
    return f"noise_{ending}" if key == "noise" else f"source_{key[1]}_{ending}"
