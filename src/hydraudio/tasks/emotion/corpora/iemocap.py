"""The turns of IEMOCAP (Busso et al. 2008) from its folders.

`Session<1..5>/dialog/EmoEvaluation/<dialog>.txt` holds a block per turn: a line with times, turn, consensus and mean
attributes, then a line per rater. Audio is `Session<n>/sentences/wav/<dialog>/<turn>.wav`, 16 kHz. The usual four
classes (neutral 1,708, happy 1,636 with excited, angry 1,103, sad 1,084) make 5,531 of 10,039 turns.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hydraudio.core.defects import Defect
from hydraudio.core.download import Source
from hydraudio.core.sampling import generator
from hydraudio.tasks.emotion.corpora.acting import CODES, Clip, EmbeddedClips, state_of
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.labels import NAMES_OF
from hydraudio.tasks.emotion.corpora.utterances import Utterance, fold_splits, gender_index

SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
"""The splits; each holds two speakers of its own. Fold k of `fold_splits(SESSIONS, k)` tests session k."""

LETTER_OF_CODE = CODES | {"exc": "E", "fru": "R", "oth": "O", "xxx": "X"}
"""Code of the consensus -> letter; xxx is no agreement."""

_LETTER_OF_WORD = {name.lower(): letter for letter in "NHEASRFUD" for name in NAMES_OF[letter]} | {"neutral state": "N"}
_TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\t(?P<turn>\S+)\t(?P<code>\S+)\t\[(?P<means>[^\]]*)\]\s*")
_TURN_NAME = re.compile(r"(?P<dialog>Ses0(?P<session>[1-5])[FM]_\w+)_(?P<speaker>[FM])(XX)?\d+")
_RATER = re.compile(r"C-E\d+:\s*(?P<words>[^(\t]*)")


class IEMOCAPDataModule(EmotionDataModule):
    """Four classes (5,531 turns with excited as happy) and attributes, five folds by session.

    Busso et al., "IEMOCAP: Interactive emotional dyadic motion capture database", Language Resources and Evaluation,
    2008.

    Args:
        fold: session to test on, 1 to 5; the next one validates.
        merge_excited: turns labelled excited count as happy.
        classes: see :class:`EmotionDataModule`.
        **common: see :class:`EmotionDataModule`.
    """

    corpus: ClassVar[str] = "iemocap"
    layout: ClassVar[str] = (
        "the folder that holds Session1 to Session5, or the one above, which holds IEMOCAP_full_release"
    )
    source: ClassVar[Source] = Source(
        by_hand="IEMOCAP needs a form: fill in the release form at https://sail.usc.edu/iemocap/, unpack what comes, "
        "and set data.root to its folder."
    )

    def __init__(
        self, fold: int = 1, merge_excited: bool = True, classes: int | str | Sequence[str] = "iemocap_4", **common: Any
    ) -> None:
        super().__init__(splits=fold_splits(SESSIONS, fold), classes=classes, **common)
        self.merge_excited = merge_excited

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedIEMOCAP]:
        return EmbeddedIEMOCAP

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """Return the turns of all sessions and defects of their evaluations."""
        return parse_index(self.root, self.merge_excited)


def parse_index(root: Path, merge_excited: bool = True) -> tuple[list[Utterance], list[Defect]]:
    """Return the turns that can be used, in the order of sessions, dialogs and files, and every defect of the
    evaluations.

    Attributes are mean ratings from 1 to 5 (up to half a point outside counts as the end), stretched linearly to 1 to
    7: 1 + (x - 1) * 6 / 4. Speaker is session and sex ("Ses01F", by the turn, not by who wears the markers),
    split the session, podcast the dialog. Votes are those of the evaluators C-E1, C-E2 ...; an evaluator with several
    labels gives each an equal part; what actors said of themselves (C-F1, C-M1) does not count, as it does not count
    for the consensus.

    Args:
        root: IEMOCAP_full_release, or the folder that holds it.
        merge_excited: excited counts as happy (H), as in the four-class protocol; else it is E.
    """
    root = Path(root)
    inner = root / "IEMOCAP_full_release"
    root = inner if inner.is_dir() else root
    rows: dict[str, Utterance] = {}
    defects: list[Defect] = []
    for session in SESSIONS:
        folder = root / session / "dialog" / "EmoEvaluation"
        tables = sorted(path for path in folder.glob("[!.]*.txt") if path.is_file())
        defects += _dialogs_without(tables, root / session)
        for table in tables:
            n_before = len(rows) + len(defects)
            for block in _blocks(table, defects):
                row = _parse_block(root / session, block, merge_excited, defects)
                if row is not None and row.file_name in rows:
                    defects.append(Defect("duplicate_row", f"{block.where}: {row.file_name} occurs twice; keep one"))
                elif row is not None:
                    rows[row.file_name] = row
            if len(rows) + len(defects) == n_before:
                defects.append(Defect("empty_csv", f"{table}: holds no turns; copy the file again"))
            defects += _lost_turns(root / session, table)
    if not rows and not defects:
        message = f"{root / SESSIONS[0] / 'dialog' / 'EmoEvaluation'}: no evaluations; set data.root to the folder that"
        defects.append(Defect("missing_root", f"{message} holds {', '.join(SESSIONS)}"))
    return list(rows.values()), defects


def _dialogs_without(tables: list[Path], session: Path) -> list[Defect]:
    """Find dialogs that have recordings and no evaluations."""
    defects = []
    for dialog in sorted({path.parent for path in (session / "sentences" / "wav").glob("[!.]*/[!.]*.wav")}):
        table = session / "dialog" / "EmoEvaluation" / f"{dialog.name}.txt"
        if table not in tables:
            message = f"{table}: no such file that can be read, but {dialog} holds recordings; copy the file again"
            defects.append(Defect("missing_csv", message))
    return defects


def _lost_turns(session: Path, table: Path) -> list[Defect]:
    """Find recordings of a dialog that its evaluations, which were cut off, do not speak of."""
    content = table.read_bytes()
    recordings = {path.stem for path in (session / "sentences" / "wav" / table.stem).glob("[!.]*.wav")}
    lost = sorted(name for name in recordings if name.encode() not in content)
    if not lost:
        return []
    message = f"{table}: has no line for {len(lost)} of {len(recordings)} recordings, such as {lost[0]}"
    return [Defect("lost_rows", f"{message}; it is cut off, copy the file again")]


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


# --- the miniature ---

# turns of the corpus per consensus
_IEMOCAP_COUNTS = {"neu": 1708, "fru": 1849, "ang": 1103, "sad": 1084, "exc": 1041, "hap": 595, "sur": 107, "fea": 40}
_NO_AGREEMENT_SHARE = 0.25
_IEMOCAP_WORDS = {
    "neu": "Neutral",
    "hap": "Happiness",
    "exc": "Excited",
    "ang": "Anger",
    "sad": "Sadness",
    "fru": "Frustration",
    "fea": "Fear",
    "sur": "Surprise",
    "oth": "Other",
}


@dataclass(frozen=True, kw_only=True)
class EmbeddedIEMOCAP(EmbeddedClips):
    """Five sessions of two dialogs each at 16 kHz, in Session1 to Session5.

    The consensus is the label of most of the three evaluators (xxx where there is none), and the attributes are the
    means of two evaluators' ratings from 1 to 5, as in the corpus.

    Attributes:
        n_turns: of every dialog, half of each speaker.
    """

    n_turns: int = 24
    min_s: float = 1.2
    max_s: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_turns < 8:
            raise ValueError(f"n_turns is {self.n_turns}; a dialog needs at least 8, so that the usual emotions occur")

    def plan(self, root: Path) -> list[Clip]:
        dialogs = [
            (session, place, name)
            for session in range(1, 6)
            for place, name in enumerate((f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1"))
        ]
        return [
            clip
            for session, place, name in dialogs
            for clip in _plan_dialog(self, root, session, name, generator(self.seed, 12, session, place))
        ]


def _plan_dialog(spec: EmbeddedIEMOCAP, root: Path, session: int, dialog: str, rng: np.random.Generator) -> list[Clip]:
    """Plan the turns of a dialog; write its evaluations and transcriptions."""
    codes = rng.permutation(_iemocap_codes(spec.n_turns))
    clips, blocks, lines, start_s = [], [], [], 2.0
    for row, code in enumerate(codes):
        turn = f"{dialog}_{'FM'[row % 2]}{row // 2:03d}"
        heard = str(rng.choice([known for known in _IEMOCAP_WORDS if known != "oth"])) if code == "xxx" else str(code)
        affect, classes = state_of(heard, float(rng.uniform(0.6, 1.2)))
        length_s = float(rng.uniform(spec.min_s, spec.max_s))
        voice = 2 * session - row % 2 - 1  # odd voices are women's
        path = f"Session{session}/sentences/wav/{dialog}/{turn}.wav"
        clips.append(Clip(path, voice, affect, classes, length_s))
        times = f"{start_s:.4f} - {start_s + length_s:.4f}"
        blocks.append(_evaluation(times, turn, str(code), heard, affect, "FM"[row % 2], rng))
        lines.append(f"{turn} [{start_s:08.4f}-{start_s + length_s:08.4f}]: La la la.\n")
        start_s += length_s + 0.5
    base = root / f"Session{session}" / "dialog"
    for name in ("EmoEvaluation", "transcriptions"):
        (base / name).mkdir(parents=True, exist_ok=True)
    header = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    (base / "EmoEvaluation" / f"{dialog}.txt").write_text(header + "\n".join(blocks), encoding="utf-8")
    (base / "transcriptions" / f"{dialog}.txt").write_text("".join(lines), encoding="utf-8")
    return clips


def _iemocap_codes(n_turns: int) -> list[str]:
    """About the corpus's frequencies; the commonest emotions are always there."""
    n_disagreed = int(_NO_AGREEMENT_SHARE * n_turns)
    wanted = Counter(dict.fromkeys(("neu", "ang", "sad", "hap"), 1))
    while wanted.total() < n_turns - n_disagreed:
        wanted[min(_IEMOCAP_COUNTS, key=lambda code: (wanted[code] + 0.5) / _IEMOCAP_COUNTS[code])] += 1
    return [*wanted.elements(), *["xxx"] * n_disagreed]


def _evaluation(
    times: str, turn: str, code: str, heard: str, affect: Sequence[float], sex: str, rng: np.random.Generator
) -> str:
    """The block of a turn: consensus, three evaluators and the actor, two of them with attributes."""
    others = [word for known, word in _IEMOCAP_WORDS.items() if known != heard]
    words = [_IEMOCAP_WORDS[heard]] * 3
    n_disagreeing = 2 if code == "xxx" else int(rng.choice(3, p=(0.5, 0.4, 0.1)) > 0)
    for place, word in enumerate(rng.choice(others, size=n_disagreeing, replace=False)):
        words[2 - place] = str(word)
    centre = 1.0 + (np.array(affect) - 1.0) * 4.0 / 6.0  # 1..7 to 1..5
    ratings = np.clip(np.rint(centre + rng.normal(0.0, 0.6, (3, 3))), 1, 5)
    arousal, valence, dominance = ratings[:2].mean(axis=0)
    lines = [f"[{times}]\t{turn}\t{code}\t[{valence:.4f}, {arousal:.4f}, {dominance:.4f}]"]
    raters = [*(f"E{number}" for number in (1, 2, 3)), f"{sex}1"]
    lines += [f"C-{rater}:\t{word};\t()" for rater, word in zip(raters, [*words, words[0]], strict=True)]
    for rater, (act, val, dom) in zip(("E1", "E2", f"{sex}1"), ratings, strict=True):
        lines.append(f"A-{rater}:\tval {val:.0f}; act {act:.0f}; dom  {dom:.0f};\t()")
    return "\n".join(lines) + "\n"
