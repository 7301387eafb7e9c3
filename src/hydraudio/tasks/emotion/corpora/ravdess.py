"""The spoken clips of RAVDESS (Livingstone and Russo 2018) from its folders.

`Actor_<01..24>/<modality>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav`, 48 kHz: 1,440 clips of
24 actors, eight emotions (192 each, 96 neutral). Odd actors are men.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydraudio.core.defects import Defect
from hydraudio.core.download import Archive, Source
from hydraudio.core.sampling import generator
from hydraudio.tasks.emotion.corpora.acting import Clip, EmbeddedClips, state_of
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.utterances import Utterance, fold_splits

FOLDS = tuple(f"Fold{number}" for number in range(1, 7))
"""The splits: actors 1-4 are Fold1, 5-8 Fold2 and so on, two women and two men each.
Use them through `fold_splits(FOLDS, k)`."""

LETTER_OF_CODE = {"01": "N", "02": "L", "03": "H", "04": "S", "05": "A", "06": "F", "07": "D", "08": "U"}

_FOLDERS = ("", "audio_speech_actors_01-24", "Audio_Speech_Actors_01-24")
"""Where the actors' folders lie below the root; the latter as the archive is called."""

_NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<code>0[1-8])-0[12]-0[12]-0[12]-(?P<actor>[01]\d|2[0-4])\.wav"
)


class RAVDESSDataModule(EmotionDataModule):
    """Eight acted classes (1,440 spoken clips at 48 kHz, resampled when read), no attributes, six folds by actor.

    Livingstone and Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)", PLoS ONE, 2018.

    Args:
        fold: to test on, 1 to 6; the next one validates.
        classes: see :class:`EmotionDataModule`.
        attributes: none, as the corpus has none; others would be missing throughout.
        **common: see :class:`EmotionDataModule`.
    """

    corpus: ClassVar[str] = "ravdess"
    layout: ClassVar[str] = "the folder that holds Actor_01 to Actor_24"
    source: ClassVar[Source] = Source(
        (
            Archive(
                addresses=("https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",),
                known_hash="md5:bc696df654c87fed845eb13823edef8a",  # as Zenodo's page says
            ),
        ),
        terms="Creative Commons BY-NC-SA 4.0, for use without commercial purpose.",
    )
    file_rate: ClassVar[int] = 48000

    def __init__(
        self,
        fold: int = 1,
        classes: int | str | Sequence[str] = "ravdess_8",
        attributes: Sequence[str] = (),
        **common: Any,
    ) -> None:
        super().__init__(splits=fold_splits(FOLDS, fold), classes=classes, attributes=attributes, **common)

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedRAVDESS]:
        return EmbeddedRAVDESS

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """Return all spoken clips and defects of their names."""
        return parse_index(self.root)


def parse_index(root: Path) -> tuple[list[Utterance], list[Defect]]:
    """Return the spoken clips that can be used, sorted by actor and name, and every defect of the names.

    Sung clips (channel 02) are left out.
    """
    rows, defects = [], []
    for path in _clips(Path(root)):
        match = _NAME.fullmatch(path.name)
        if match is None or f"Actor_{match['actor']}" != path.parent.name or match["actor"] == "00":
            message = f"{path}: not named like a clip of {path.parent.name}, e.g. 03-01-06-01-02-01-12.wav in Actor_12"
            defects.append(Defect("bad_name", f"{message}; rename or remove it"))
        elif match["channel"] == "01":
            rows.append(_make_row(path, match["code"], int(match["actor"])))
    if not rows and not defects:
        message = f"{Path(root) / 'Actor_01'}: no spoken clips; set data.root to the folder that holds Actor_01 ..."
        defects.append(Defect("missing_root", message))
    return rows, defects


def _clips(root: Path) -> list[Path]:
    for folder in _FOLDERS:
        clips = sorted(path for path in (root / folder).glob("Actor_*/*.wav") if not path.name.startswith("."))
        if clips:
            return clips
    return []


def _make_row(path: Path, code: str, actor: int) -> Utterance:
    return Utterance(
        file_name=path.name,
        path=path,
        letter=LETTER_OF_CODE[code],
        speaker=f"Actor_{actor:02d}",
        gender=actor % 2,
        split=FOLDS[(actor - 1) // 4],
    )


# --- the miniature ---

_RAVDESS_CODES = {
    "01": "neu",
    "02": "cal",
    "03": "hap",
    "04": "sad",
    "05": "ang",
    "06": "fea",
    "07": "dis",
    "08": "sur",
}


@dataclass(frozen=True, kw_only=True)
class EmbeddedRAVDESS(EmbeddedClips):
    """Actors in eight emotions at 48 kHz, normal and (but neutral) strong, in Actor_01, Actor_02 and so on.

    Attributes:
        n_actors: 1 to 24, odd ones are men; all folds of four actors need 24.
        n_statements: 1 or 2.
        n_repetitions: 1 or 2.
    """

    n_actors: int = 24
    n_statements: int = 1
    n_repetitions: int = 1
    min_s: float = 1.2
    max_s: float = 2.0

    sample_rate = 48000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_actors <= 24:
            raise ValueError(f"n_actors is {self.n_actors}; RAVDESS has 1 to 24")
        if self.n_statements not in (1, 2) or self.n_repetitions not in (1, 2):
            raise ValueError(f"n_statements {self.n_statements} and n_repetitions {self.n_repetitions} must be 1 or 2")

    def plan(self, root: Path) -> list[Clip]:
        rng = generator(self.seed, 14)
        takes = _ravdess_takes(self.n_statements, self.n_repetitions)
        clips = []
        for actor in range(1, self.n_actors + 1):
            for emotion, strength, statement, repetition in takes:
                name = f"03-01-{emotion}-{strength:02d}-{statement:02d}-{repetition:02d}-{actor:02d}.wav"
                state = state_of(_RAVDESS_CODES[emotion], 0.85 if strength == 1 else 1.3)
                length_s = float(rng.uniform(self.min_s, self.max_s))
                clips.append(Clip(f"Actor_{actor:02d}/{name}", actor - 1, *state, length_s))  # even voices are men's
        return clips


def _ravdess_takes(n_statements: int, n_repetitions: int) -> list[tuple[str, int, int, int]]:
    """(emotion, intensity, statement, repetition) of every clip of an actor; there is no strong neutral."""
    return [
        (emotion, strength, statement, repetition)
        for emotion, code in _RAVDESS_CODES.items()
        for strength in ((1,) if code == "neu" else (1, 2))
        for statement in range(1, n_statements + 1)
        for repetition in range(1, n_repetitions + 1)
    ]
