"""Acted emotions in the layout of EMO-DB: ``wav/<speaker><text><emotion><take>.wav``, and a miniature of it.

Burkhardt et al., "A Database of German Emotional Speech", Interspeech 2005: 535 utterances of ten actors, 16 kHz;
03a01Wa.wav is take a of text a01, said in anger (W) by actor 03.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydraudio.core.defects import Defect
from hydraudio.core.sampling import generator
from hydraudio.tasks.emotion.corpora.acting import Clip, EmbeddedClips, state_of
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.utterances import Utterance, fold_splits

LETTER_OF_CODE = {"W": "A", "E": "D", "A": "F", "F": "H", "T": "S", "N": "N", "L": "O"}
"""Letter in the file name (Wut, Ekel, Angst, Freude, Trauer, neutral, Langeweile) -> letter of the house's classes."""

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Neutral")
"""Boredom (Langeweile) is none of them: where `unlabelled` is drop, it takes no part."""

FOLDS = {
    "Fold1": ("03", "08"),
    "Fold2": ("10", "09"),
    "Fold3": ("11", "13"),
    "Fold4": ("12", "14"),
    "Fold5": ("15", "16"),
}
"""The splits: a man and a woman each."""

_NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<code>[WEAFTNL])(?P<take>[a-f])\.wav")


class ActedEmotions(EmotionDataModule):
    """Six acted classes, no attributes, five folds by speaker.

    Args:
        fold: to test on, 1 to 5; the next one validates.
        classes: see :class:`hydraudio.tasks.emotion.corpora.base.EmotionDataModule`.
        attributes: none, as the corpus has none.
        **common: see the same.
    """

    corpus: ClassVar[str] = "my_project"
    layout: ClassVar[str] = "the folder that holds wav"

    def __init__(
        self, fold: int = 1, classes: Sequence[str] = CLASSES, attributes: Sequence[str] = (), **common: Any
    ) -> None:
        super().__init__(splits=fold_splits(list(FOLDS), fold), classes=classes, attributes=attributes, **common)

    @classmethod
    def embedded_corpus(cls) -> type[Miniature]:
        return Miniature

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """Return all files that can be used, sorted by name, and the defects of the names of the others."""
        rows, defects = [], []
        split_of = {speaker: split for split, speakers in FOLDS.items() for speaker in speakers}
        for path in sorted((self.root / "wav").glob("*.wav")):
            match = _NAME.fullmatch(path.name)
            if match is None or match["speaker"] not in split_of:
                message = (
                    f"{path}: not named <speaker><text><emotion><take>.wav, such as 03a01Wa.wav; rename or remove it"
                )
                defects.append(Defect("bad_name", message))
                continue
            speaker = match["speaker"]
            is_man = speaker == FOLDS[split_of[speaker]][0]
            letter, split = LETTER_OF_CODE[match["code"]], split_of[speaker]
            rows.append(Utterance(path.name, path, letter=letter, speaker=speaker, gender=int(is_man), split=split))
        if not rows and not defects:
            defects.append(Defect("missing_root", f"{self.root / 'wav'}: no files; set data.root to {self.layout}"))
        return rows, defects


@dataclass(frozen=True, kw_only=True)
class Miniature(EmbeddedClips):
    """Ten synthetic actors in the real layout; each says every text in every emotion but boredom.

    Attributes:
        n_texts: 1 to 9.
    """

    n_texts: int = 3
    min_s: float = 1.2
    max_s: float = 2.0

    version = 1  # raise it whenever the same attributes give other files

    def plan(self, root: Path) -> list[Clip]:
        codes = {"W": "ang", "E": "dis", "A": "fea", "F": "hap", "T": "sad", "N": "neu"}
        rng, clips = generator(self.seed, 21), []
        for voice, speaker in enumerate(speaker for pair in FOLDS.values() for speaker in pair):
            for text in range(1, self.n_texts + 1):
                for code, emotion in codes.items():
                    name = f"wav/{speaker}a{text:02d}{code}a.wav"
                    clips.append(Clip(name, voice, *state_of(emotion), float(rng.uniform(self.min_s, self.max_s))))
        return clips
