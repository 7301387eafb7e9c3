"""The spoken clips of RAVDESS (Livingstone and Russo 2018) from its folders.

`Actor_<01..24>/<modality>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav`, 48 kHz: 1,440 clips of
24 actors, eight emotions (192 each, 96 neutral). Odd actors are men.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydraudio.core.defects import Defect
from hydraudio.tasks.emotion.corpora.acting import Clip, check_lengths, generator, state_of, write_clips
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.utterances import Utterance, fold_splits

GENERATOR_VERSION = 1  # of the miniature: raise it whenever the same arguments give other samples or labels

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
    file_rate: ClassVar[int] = 48000

    def __init__(
        self,
        fold: int = 1,
        classes: int | str | Sequence[str] = "ravdess_8",
        attributes: Sequence[str] = (),
        **common: Any,
    ) -> None:
        super().__init__(splits=fold_splits(FOLDS, fold), classes=classes, attributes=attributes, **common)

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


def write_embedded_ravdess(
    folder: str | Path,
    n_actors: int = 24,
    n_statements: int = 1,
    n_repetitions: int = 1,
    min_s: float = 1.2,
    max_s: float = 2.0,
    seed: int = 0,
    n_processes: int | None = None,
) -> Path:
    """Actors in eight emotions at 48 kHz, normal and (but neutral) strong; nothing if they are there already.

    Args:
        folder: root of the corpus, which holds Actor_01, Actor_02 and so on; odd ones are men.
        n_actors: 1 to 24; all folds of four actors need 24.
        n_statements: 1 or 2.
        n_repetitions: 1 or 2.
        min_s: length of the shortest clip.
        max_s: length of the longest clip.
        seed: of everything.
        n_processes: None takes the CPUs that there are.

    Returns:
        The root, as an absolute path.

    Raises:
        ValueError: impossible arguments, or the folder exists and holds something else.
    """
    check_lengths(min_s, max_s)
    if not 1 <= n_actors <= 24:
        raise ValueError(f"n_actors is {n_actors}; RAVDESS has 1 to 24")
    if n_statements not in (1, 2) or n_repetitions not in (1, 2):
        raise ValueError(f"n_statements {n_statements} and n_repetitions {n_repetitions} must be 1 or 2")
    sizes = {"n_actors": n_actors, "n_statements": n_statements, "n_repetitions": n_repetitions}
    lengths = {"min_s": min_s, "max_s": max_s}
    arguments = {"version": GENERATOR_VERSION, "corpus": "ravdess", **sizes, **lengths, "seed": seed}

    def plan(root: Path) -> list[Clip]:
        rng = generator(seed, 14)
        clips = []
        for actor in range(1, n_actors + 1):
            for emotion, strength, statement, repetition in _ravdess_takes(n_statements, n_repetitions):
                name = f"03-01-{emotion}-{strength:02d}-{statement:02d}-{repetition:02d}-{actor:02d}.wav"
                state = state_of(_RAVDESS_CODES[emotion], 0.85 if strength == 1 else 1.3)
                # even voices are men's
                clip = Clip(f"Actor_{actor:02d}/{name}", actor - 1, *state, float(rng.uniform(min_s, max_s)))
                clips.append(clip)
        return clips

    return write_clips(folder, arguments, 48000, plan, n_processes)


def _ravdess_takes(n_statements: int, n_repetitions: int) -> list[tuple[str, int, int, int]]:
    """(emotion, intensity, statement, repetition) of every clip of an actor; there is no strong neutral."""
    return [
        (emotion, strength, statement, repetition)
        for emotion, code in _RAVDESS_CODES.items()
        for strength in ((1,) if code == "neu" else (1, 2))
        for statement in range(1, n_statements + 1)
        for repetition in range(1, n_repetitions + 1)
    ]
