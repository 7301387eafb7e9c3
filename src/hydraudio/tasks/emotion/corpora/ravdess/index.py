"""The spoken clips of RAVDESS (Livingstone and Russo 2018) from its folders.

`Actor_<01..24>/<modality>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav`, 48 kHz: 1,440 clips of
24 actors, eight emotions (192 each, 96 neutral). Odd actors are men.
"""

from __future__ import annotations

import re
from pathlib import Path

from hydraudio.core.defects import Defect, raise_first
from hydraudio.tasks.emotion.corpora.utterances import Utterance

FOLDS = tuple(f"Fold{number}" for number in range(1, 7))
"""The splits: actors 1-4 are Fold1, 5-8 Fold2 and so on, two women and two men each.
Use them through `folds.fold_splits(FOLDS, k)`."""

LETTER_OF_CODE = {"01": "N", "02": "L", "03": "H", "04": "S", "05": "A", "06": "F", "07": "D", "08": "U"}

_FOLDERS = ("", "audio_speech_actors_01-24", "Audio_Speech_Actors_01-24")
"""Where the actors' folders lie below the root; the latter as the archive is called."""

_NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<code>0[1-8])-0[12]-0[12]-0[12]-(?P<actor>[01]\d|2[0-4])\.wav"
)


def read_index(root: Path) -> list[Utterance]:
    """Every spoken clip, sorted by actor and name; sung ones (channel 02) are left out.

    Raises:
        FileNotFoundError: no folder Actor_01, Actor_02 ... with spoken clips.
        ValueError: the first defect of the names.
    """
    rows, defects = parse_index(root)
    raise_first(defects)
    return rows


def parse_index(root: Path) -> tuple[list[Utterance], list[Defect]]:
    """The clips that can be used, and every defect of the names."""
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
