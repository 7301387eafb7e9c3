"""ESC-50 (Piczak 2015) as it is distributed: `audio/*.wav` and `meta/esc50.csv`.

2,000 clips of 5 s, mono, 44.1 kHz, 50 classes of 40 clips, in five folds that keep the clips of one recording together
(but for a few recordings, which :func:`spanning_sources` finds).
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from hydraudio.audio.io import write_audio
from hydraudio.core.defects import Defect
from hydraudio.core.download import Archive, Source
from hydraudio.core.files import write_csv
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.options import check_choice
from hydraudio.core.parallel import map_in_processes
from hydraudio.core.sampling import generator
from hydraudio.core.tables import read_table
from hydraudio.sounds.events import make_event
from hydraudio.sounds.textures import add_at, coloured_noise, equalise
from hydraudio.tasks.pretraining.corpora.base import ClipDataModule
from hydraudio.tasks.pretraining.corpora.clips import Clip, Parsed, Span

_NAMES = """
dog rooster pig cow frog cat hen insects sheep crow
rain sea_waves crackling_fire crickets chirping_birds water_drops wind pouring_water toilet_flush thunderstorm
crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth snoring drinking_sipping
door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine vacuum_cleaner clock_alarm
clock_tick glass_breaking
helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw
"""
CLASSES = tuple(_NAMES.split())
"""In the order of the column `target`; ten each of animals, nature, people, indoors and outdoors."""

ESC10 = frozenset((0, 1, 10, 11, 12, 20, 21, 38, 40, 41))
"""Targets of the subset ESC-10."""

N_FOLDS = 5
FILE_RATE = 44100
FILE_SAMPLES = 220500
"""5 s; shorter events are followed by zeros."""

COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")

_NAME = re.compile(r"(?P<fold>\d+)-(?P<src_file>\d+)-(?P<take>[A-Z])-(?P<target>\d+)\.wav")


class ESC50DataModule(ClipDataModule):
    """50 classes of environmental sound (or the 10 of ESC-10), five folds.

    Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia, 2015.

    Args:
        test_fold: 1 to 5. No training sees it, neither of a classifier nor before it.
        protocol: `classic` trains on all four other folds, and as none is left to choose a checkpoint by, the last one
            counts; `nested` validates on the next fold (after 5 comes 1) and trains on the other three.
        esc10: take the ten classes of ESC-10 only.
        **common: see :class:`hydraudio.tasks.pretraining.corpora.base.ClipDataModule`.
    """

    corpus: ClassVar[str] = "esc50"
    layout: ClassVar[str] = "the folder ESC-50-master, which holds audio/ and meta/esc50.csv"
    source: ClassVar[Source] = Source(
        (
            Archive(
                # the first is a copy whose bytes stay; both were published with this checksum (PaddleAudio, soundata)
                addresses=(
                    "https://paddleaudio.bj.bcebos.com/datasets/ESC-50-master.zip",
                    "https://github.com/karolpiczak/ESC-50/archive/master.zip",
                ),
                known_hash="md5:7771e4b9d86d0945acce719c7a59305a",
                inner="ESC-50-master",
            ),
        ),
        terms="Creative Commons BY-NC 3.0, for research without commercial use; the clips of ESC-10 are BY.",
    )

    def __init__(
        self,
        test_fold: int = 5,
        protocol: Literal["classic", "nested"] = "nested",
        esc10: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.test_fold = check_choice("test_fold", test_fold, range(1, N_FOLDS + 1))
        self.protocol = check_choice("protocol", protocol, ("classic", "nested"))
        self.esc10 = esc10

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedESC50]:
        return EmbeddedESC50

    @property
    def folds(self) -> list[str]:
        return [str(fold) for fold in range(1, N_FOLDS + 1)]

    def parse(self) -> Parsed:
        """Read the table; classes are those that occur in it, in the order of the column `target`."""
        return parse_index(self.root, ESC10 if self.esc10 else range(len(CLASSES)))

    def split_of(self, clip: Clip) -> str:
        """Return the split of a clip's fold."""
        fold = int(clip.part)
        if fold == self.test_fold:
            return "test"
        return "val" if self.protocol == "nested" and fold == self.test_fold % N_FOLDS + 1 else "train"

    def audio_defects(self, clips: Sequence[Clip], spans: Sequence[Span]) -> list[Defect]:
        """Return the files that are not 5 s at 44.1 kHz."""
        defects = []
        for clip, span in zip(clips, spans, strict=True):
            if (span.n_samples, span.file_rate) != (FILE_SAMPLES, FILE_RATE):
                message = f"{clip.path}: has {span.n_samples} samples at {span.file_rate} Hz"
                remedy = f"every file of ESC-50 has {FILE_SAMPLES} at {FILE_RATE} Hz; fetch it again"
                defects.append(Defect("bad_form", clip.described(f"{message}, but {remedy}")))
        return defects


def parse_index(root: Path, targets: Sequence[int] | frozenset[int]) -> Parsed:
    """Read `meta/esc50.csv`; a row whose columns or name contradict each other becomes a defect.

    Args:
        root: of the corpus.
        targets: other rows are read, but left out.
    """
    table = root / "meta" / "esc50.csv"
    defects: list[Defect] = []
    rows, seen = [], dict[str, int]()
    for line, row in read_table(table, COLUMNS, defects):
        found = [f"{table}: line {line} ({row['filename']}): {text}" for text in _contradictions(row)]
        if row["filename"] in seen:
            found.append(
                f"{table}: line {line}: {row['filename']} stands in line {seen[row['filename']]}, too; keep one"
            )
        seen.setdefault(row["filename"], line)
        defects += [Defect("bad_row", message) for message in found]
        if not found and int(row["target"]) in targets:
            rows.append((line, row))
    present = sorted({int(row["target"]) for _, row in rows})
    index = {target: number for number, target in enumerate(present)}
    clips = [
        Clip(
            id=Path(row["filename"]).stem,
            path=root / "audio" / row["filename"],
            where=f"{table}: line {line}",
            labels=(index[int(row["target"])],),
            group=row["src_file"],
            part=row["fold"],
        )
        for line, row in rows
    ]
    if not clips and not defects:
        defects.append(Defect("empty_csv", f"{table}: has no rows of the wanted classes; fetch the corpus again"))
    if spanning := spanning_sources(clips):
        defects.append(
            Defect(
                "shared_source",
                f"{table}: recordings {', '.join(spanning)} have clips in several folds: scores are a little too good; "
                "the published folds are kept",
                "warning",
            )
        )
    return Parsed(clips, [CLASSES[target] for target in present], False, defects)


def spanning_sources(clips: Sequence[Clip]) -> list[str]:
    """Return the recordings whose clips lie in more than one fold, in numerical order."""
    folds = defaultdict(set)
    for clip in clips:
        folds[clip.group].add(clip.part)
    return sorted((source for source, parts in folds.items() if len(parts) > 1), key=int)


def _contradictions(row: Mapping[str, str]) -> Iterator[str]:
    """Say what is wrong with a row; its file is not looked for."""
    if row["fold"] not in map(str, range(1, N_FOLDS + 1)):
        yield f"fold is {row['fold']!r}, expected 1 to {N_FOLDS}; copy the table again"
    if row["target"] not in map(str, range(len(CLASSES))):
        yield f"target is {row['target']!r}, expected 0 to {len(CLASSES) - 1}; copy the table again"
    else:
        target = int(row["target"])
        if row["category"] != CLASSES[target]:
            yield f"target {target} is {CLASSES[target]}, but category is {row['category']!r}; correct one of them"
        if row["esc10"] != str(target in ESC10):
            yield f"esc10 is {row['esc10']!r}, expected {target in ESC10} for target {target}; copy the table again"
    match = _NAME.fullmatch(row["filename"])
    if match is None:
        yield "the file is not named <fold>-<src_file>-<take>-<target>.wav, such as 1-100032-A-0.wav; rename it"
        return
    for column, named in match.groupdict().items():
        if row[column] != named:
            yield f"the name says {column} {named}, the column {row[column]!r}; correct one of them"


# --- the miniature ---

EVENT_OF = {
    "dog": "dog",
    "rain": "rain",
    "footsteps": "footsteps",
    "clock_tick": "clock tick",
    "helicopter": "helicopter",
    "chirping_birds": "bird",
    "door_wood_knock": "knock",
    "siren": "siren",
    "clock_alarm": "phone",
    "church_bells": "bell",
    "water_drops": "water drops",
    "clapping": "clapping",
    "crickets": "crickets",
    "glass_breaking": "glass",
    "car_horn": "horn",
    "thunderstorm": "thunder",
}
"""Category -> event that is synthesised for it, in the order in which a miniature takes them."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedESC50(EmbeddedCorpus):
    """Clips of synthetic events in `audio/` and `meta/esc50.csv`, in the format of ESC-50.

    A recording has an event, a place (colour of its background) and a microphone (colour of everything) of its own; a
    further take of it has another level and other moments. Colours and levels differ more within a class than between
    classes, so that a class is heard in how a sound goes on rather than in its mean spectrum. Events recur until the
    recording ends, and a third of the recordings are short and padded with zeros, whatever their class.

    Attributes:
        n_classes: 1 to 16.
        n_per_fold: clips of each class in each of the five folds, 1 to 8; a third of them are further takes.
    """

    n_classes: int = 10
    n_per_fold: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.n_classes <= len(EVENT_OF):
            raise ValueError(f"n_classes is {self.n_classes}; the miniature has 1 to {len(EVENT_OF)}")
        if not 1 <= self.n_per_fold <= 8:
            raise ValueError(f"n_per_fold is {self.n_per_fold}; ESC-50 has 8, a miniature 1 to 8")

    def write(self, root: Path) -> None:
        folds = [list(self._rows(fold)) for fold in range(1, N_FOLDS + 1)]
        for _ in map_in_processes(_write_clips, (root, self.seed), folds, self.n_processes):
            pass
        rows = sorted(itertools.chain(*folds), key=lambda row: str(row["filename"]))
        write_csv(root / "meta" / "esc50.csv", COLUMNS, rows)

    def _rows(self, fold: int) -> Iterator[dict[str, Any]]:
        source = 100000 * fold
        for category in list(EVENT_OF)[: self.n_classes]:
            target = CLASSES.index(category)
            for clip in range(self.n_per_fold):
                is_new = clip % 3 != 2
                source += is_new
                take = "A" if is_new else "B"
                values = f"{fold}-{source}-{take}-{target}.wav", fold, target, category, target in ESC10, source, take
                yield dict(zip(COLUMNS, values, strict=True))


def _write_clips(shared: tuple[Path, int], rows: Sequence[Mapping[str, Any]]) -> None:
    root, seed = shared
    for row in rows:
        write_audio(root / "audio" / row["filename"], _recorded(row, seed), FILE_RATE)


def _recorded(row: Mapping[str, Any], seed: int) -> np.ndarray:
    """(FILE_SAMPLES,) float32: the event, again and again in its background, then zeros."""
    source = generator(seed, 31, row["src_file"])
    take = generator(seed, 32, row["src_file"], ord(row["take"]))
    sound = recorded_event(row["category"], source, take)
    return np.pad(sound, (0, FILE_SAMPLES - len(sound)))


def recorded_event(category: str, source: np.random.Generator, take: np.random.Generator) -> np.ndarray:
    """Synthesise a recording of an event: (time,) float32 of at most 5 s at 44.1 kHz, in [-1, 1].

    Args:
        category: a key of `EVENT_OF`.
        source: of what all takes have in common.
        take: of what makes them differ.
    """
    event = make_event(EVENT_OF[category], FILE_RATE, source)
    place = [(60.0, source.uniform(-10, 10)), (800.0, 0.0), (8000.0, source.uniform(-30, 0)), (20000.0, -40.0)]
    tilt_db = source.uniform(-12, 12)
    microphone = [(80.0, -tilt_db), (1000.0, source.uniform(-4, 4)), (12000.0, tilt_db), (20000.0, tilt_db - 20.0)]
    snr_db = source.uniform(8, 30)
    before, after = (take.uniform(0.05, 0.6, size=2) * FILE_RATE).astype(int)
    n_samples = min(before + len(event) + after, FILE_SAMPLES)
    background = coloured_noise(n_samples, FILE_RATE, place, take)
    sound = np.float32(np.sqrt(np.mean(np.square(event))) * 10.0 ** (-snr_db / 20.0)) * background
    add_at(sound, event, int(before))
    sound = equalise(sound, FILE_RATE, microphone)
    return sound * np.float32(10.0 ** (take.uniform(-25, -3) / 20.0) / np.abs(sound).max())
