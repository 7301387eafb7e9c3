"""The turns of IEMOCAP (Busso et al. 2008) from its folders.

`Session<1..5>/dialog/EmoEvaluation/<dialog>.txt` holds a block per turn: a line with times, turn, consensus and mean
attributes, then a line per rater. Audio is `Session<n>/sentences/wav/<dialog>/<turn>.wav`, 16 kHz. The usual four
classes (neutral 1,708, happy 1,636 with excited, angry 1,103, sad 1,084) make 5,531 of 10,039 turns.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hydraudio.core.defects import Defect, raise_first
from hydraudio.tasks.emotion.corpora.utterances import Utterance, gender_index

SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
"""The splits; each holds two speakers of its own. Fold k of `folds.fold_splits(SESSIONS, k)` tests session k."""

LETTER_OF_CODE = {
    "neu": "N",
    "hap": "H",
    "exc": "E",
    "ang": "A",
    "sad": "S",
    "fru": "R",
    "fea": "F",
    "sur": "U",
    "dis": "D",
    "oth": "O",
    "xxx": "X",
}
"""Code of the consensus -> letter; xxx is no agreement."""

_LETTER_OF_WORD = {
    "neutral": "N",
    "neutral state": "N",
    "happiness": "H",
    "excited": "E",
    "anger": "A",
    "sadness": "S",
    "frustration": "R",
    "fear": "F",
    "surprise": "U",
    "disgust": "D",
}
_TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\t(?P<turn>\S+)\t(?P<code>\S+)\t\[(?P<means>[^\]]*)\]\s*")
_TURN_NAME = re.compile(r"(?P<dialog>Ses0(?P<session>[1-5])[FM]_\w+)_(?P<speaker>[FM])(XX)?\d+")
_RATER = re.compile(r"C-E\d+:\s*(?P<words>[^(\t]*)")


def read_index(root: Path, merge_excited: bool = True) -> list[Utterance]:
    """Every turn, in the order of sessions, dialogs and files.

    Attributes are mean ratings from 1 to 5 (up to half a point outside counts as the end), stretched linearly to 1 to
    7: 1 + (x - 1) * 6 / 4. Speaker is session and sex ("Ses01F", by the turn, not by who wears the markers),
    split the session, podcast the dialog. Votes are those of the evaluators C-E1, C-E2 ...; an evaluator with several
    labels gives each an equal part; what actors said of themselves (C-F1, C-M1) does not count, as it does not count
    for the consensus.

    Args:
        root: IEMOCAP_full_release, or the folder that holds it.
        merge_excited: excited counts as happy (H), as in the four-class protocol; else it is E.

    Raises:
        FileNotFoundError: no session is there.
        ValueError: the first defect of the evaluations.
    """
    rows, defects = parse_index(root, merge_excited)
    raise_first(defects)
    return rows


def parse_index(root: Path, merge_excited: bool = True) -> tuple[list[Utterance], list[Defect]]:
    """The turns that can be used, and every defect of the evaluations."""
    root = Path(root)
    inner = root / "IEMOCAP_full_release"
    root = inner if inner.is_dir() else root
    rows: dict[str, Utterance] = {}
    defects: list[Defect] = []
    for session in SESSIONS:
        for table in sorted((root / session / "dialog" / "EmoEvaluation").glob("*.txt")):
            if table.name.startswith("."):
                continue
            for block in _blocks(table, defects):
                row = _parse_block(root / session, block, merge_excited, defects)
                if row is not None and row.file_name in rows:
                    defects.append(Defect("duplicate_row", f"{block.where}: {row.file_name} occurs twice; keep one"))
                elif row is not None:
                    rows[row.file_name] = row
    if not rows and not defects:
        message = f"{root / SESSIONS[0] / 'dialog' / 'EmoEvaluation'}: no evaluations; set data.root to the folder that"
        defects.append(Defect("missing_root", f"{message} holds {', '.join(SESSIONS)}"))
    return list(rows.values()), defects


@dataclass
class _Block:
    """One turn of an evaluation file: the match of its first line, and the letters that each evaluator gave."""

    where: str
    match: re.Match[str]
    raters: list[list[str]] = field(default_factory=list)


def _blocks(table: Path, defects: list[Defect]) -> Iterator[_Block]:
    try:
        lines = table.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        defects.append(Defect("bad_csv", f"{table}: not UTF-8 ({error}); copy the file again"))
        return
    block: _Block | None = None
    for number, line in enumerate(lines, start=1):
        if line.startswith("["):
            if block is not None:
                yield block
            match = _TURN.fullmatch(line)
            block = None if match is None else _Block(f"{table}: line {number}", match)
            if match is None:
                message = (
                    f"{table}: line {number}: {line!r:.100} is not '[start - end]<tab>turn<tab>emotion<tab>[v, a, d]'"
                )
                defects.append(Defect("bad_csv", f"{message}; copy the file again"))
        elif block is not None and (rater := _RATER.match(line)):
            words = [word.strip().lower() for word in rater["words"].split(";") if word.strip()]
            block.raters.append([_LETTER_OF_WORD.get(word, "O") for word in words])
    if block is not None:
        yield block


def _parse_block(session: Path, block: _Block, merge_excited: bool, defects: list[Defect]) -> Utterance | None:
    where, code = block.where, block.match["code"]
    name = _TURN_NAME.fullmatch(block.match["turn"])
    attributes = _attributes(block.match["means"])
    if name is None or f"Session{name['session']}" != session.name:
        message = f"{where}: {block.match['turn']!r} is no turn of {session.name}; expected e.g. Ses01F_impro01_F000"
        defects.append(Defect("bad_name", message))
    elif code not in LETTER_OF_CODE:
        expected = ", ".join(LETTER_OF_CODE)
        defects.append(Defect("bad_class", f"{where}: emotion {code!r}; expected one of {expected}: correct the line"))
    elif attributes is None:
        message = f"{where}: [{block.match['means']}] are no means of ratings from 1 to 5; correct the line"
        defects.append(Defect("bad_number", message))
    else:
        merge = {"E": "H"} if merge_excited else {}
        raters = [[merge.get(letter, letter) for letter in letters] for letters in block.raters]
        mentions = Counter(letter for letters in raters for letter in letters)
        letter = LETTER_OF_CODE[code]
        return Utterance(
            file_name=f"{block.match['turn']}.wav",
            path=session / "sentences" / "wav" / name["dialog"] / f"{block.match['turn']}.wav",
            letter=merge.get(letter, letter),
            attributes=attributes,
            speaker=f"Ses0{name['session']}{name['speaker']}",
            podcast=name["dialog"],
            gender=gender_index(name["speaker"]),
            split=session.name,
            votes=_votes(raters),
            mentions={letter: count / mentions.total() for letter, count in mentions.items()},
            n_raters=sum(1 for letters in raters if letters),
        )
    return None


def _attributes(means: str) -> dict[str, float] | None:
    try:
        valence, arousal, dominance = (float(text) for text in means.split(","))
    except ValueError:
        return None
    if not all(0.5 <= mean <= 5.5 for mean in (valence, arousal, dominance)):
        return None
    ordered = {"arousal": arousal, "valence": valence, "dominance": dominance}
    return {name: 1 + (min(max(mean, 1.0), 5.0) - 1) * 6 / 4 for name, mean in ordered.items()}


def _votes(raters: list[list[str]]) -> dict[str, float]:
    answers = [letters for letters in raters if letters]
    shares: defaultdict[str, float] = defaultdict(float)
    for letters in answers:
        for letter in letters:
            shares[letter] += 1 / len(letters) / len(answers)
    return dict(shares)
