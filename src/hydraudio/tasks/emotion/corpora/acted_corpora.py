"""Embedded IEMOCAP, CREMA-D and RAVDESS: acted emotions of synthetic talkers in the layouts of the real corpora.

Folders, names of files and forms of tables are those of IEMOCAP (Busso et al. 2008, Lang. Resour. Eval. 42), CREMA-D
(Cao et al. 2014, IEEE Trans. Affective Computing 5(4)) and RAVDESS (Livingstone & Russo 2018, PLoS ONE 13(5)).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hydraudio.core.files import write_csv
from hydraudio.tasks.emotion.corpora.acted_clips import CODES, Clip, check_lengths, generator, state_of, write_clips

GENERATOR_VERSION = 1  # raise it whenever the same arguments give other samples or labels

# --- IEMOCAP ---

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


def write_embedded_iemocap(
    folder: str | Path,
    n_turns: int = 24,
    min_s: float = 1.2,
    max_s: float = 3.0,
    seed: int = 0,
    n_processes: int | None = None,
) -> Path:
    """Five sessions of two dialogs each at 16 kHz, or nothing if they are there already.

    The consensus is the label of most of the three evaluators (xxx where there is none), and the attributes are the
    means of two evaluators' ratings from 1 to 5, as in the corpus.

    Args:
        folder: root of the corpus, which holds Session1 to Session5.
        n_turns: of every dialog, half of each speaker.
        min_s: length of the shortest turn.
        max_s: length of the longest turn.
        seed: of everything.
        n_processes: None takes the CPUs that there are.

    Returns:
        The root, as an absolute path.

    Raises:
        ValueError: impossible arguments, or the folder exists and holds something else.
    """
    check_lengths(min_s, max_s)
    if n_turns < 8:
        raise ValueError(f"n_turns is {n_turns}; a dialog needs at least 8, so that the usual emotions occur")
    arguments = {
        "version": GENERATOR_VERSION,
        "corpus": "iemocap",
        "n_turns": n_turns,
        "min_s": min_s,
        "max_s": max_s,
        "seed": seed,
    }

    def plan(root: Path) -> list[Clip]:
        return [
            clip
            for session in range(1, 6)
            for place, name in enumerate((f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1"))
            for clip in _plan_dialog(root, session, name, n_turns, (min_s, max_s), generator(seed, 12, session, place))
        ]

    return write_clips(folder, arguments, 16000, plan, n_processes)


def _plan_dialog(
    root: Path, session: int, dialog: str, n_turns: int, range_s: tuple[float, float], rng: np.random.Generator
) -> list[Clip]:
    """Turns of a dialog; writes its evaluations and transcriptions."""
    codes = rng.permutation(_iemocap_codes(n_turns))
    clips, blocks, lines, start_s = [], [], [], 2.0
    for row, code in enumerate(codes):
        turn = f"{dialog}_{'FM'[row % 2]}{row // 2:03d}"
        heard = str(rng.choice([known for known in _IEMOCAP_WORDS if known != "oth"])) if code == "xxx" else str(code)
        affect, classes = state_of(heard, float(rng.uniform(0.6, 1.2)))
        length_s = float(rng.uniform(*range_s))
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


# --- CREMA-D ---

_SENTENCES = ("IEO", "DFA", "ITS", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "TSI", "WSI")
_STRENGTHS = {"LO": 0.6, "MD": 0.9, "HI": 1.3, "XX": 1.0}


def write_embedded_crema_d(
    folder: str | Path,
    n_actors: int = 15,
    n_sentences: int = 3,
    min_s: float = 1.2,
    max_s: float = 2.6,
    seed: int = 0,
    n_processes: int | None = None,
) -> Path:
    """AudioWAV (16 kHz), VideoDemographics.csv and the first columns of tabulatedVotes.csv; nothing if it is there.

    The first sentence (IEO) is spoken at three levels of each emotion but neutral, the others at none (XX).

    Args:
        folder: root of the corpus.
        n_actors: 1001, 1002 and so on, women and men in turn.
        n_sentences: of twelve, by each actor in all six emotions.
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
    if n_actors < 5 or not 1 <= n_sentences <= len(_SENTENCES):
        raise ValueError(f"n_actors {n_actors} must be at least 5 (one per fold), n_sentences {n_sentences} 1 to 12")
    sizes = {"n_actors": n_actors, "n_sentences": n_sentences}
    arguments = {
        "version": GENERATOR_VERSION,
        "corpus": "crema_d",
        **sizes,
        "min_s": min_s,
        "max_s": max_s,
        "seed": seed,
    }

    def plan(root: Path) -> list[Clip]:
        rng = generator(seed, 13)
        rows = []
        for actor in range(1, n_actors + 1):
            sex = "Female" if actor % 2 else "Male"
            rows.append([str(1000 + actor), str(rng.integers(20, 75)), sex, "Unknown", "Not Hispanic"])
        write_csv(root / "VideoDemographics.csv", ["ActorID", "Age", "Sex", "Race", "Ethnicity"], rows)
        clips, votes = [], []
        for number, (actor, sentence, code, level) in enumerate(_crema_d_clips(n_actors, n_sentences), start=1):
            stem = f"{1000 + actor}_{sentence}_{code.upper()}_{level}"
            affect, classes = state_of(code, _STRENGTHS[level])
            clips.append(Clip(f"AudioWAV/{stem}.wav", actor, affect, classes, float(rng.uniform(min_s, max_s))))
            votes.append(_vote_row(100000 + number, stem, CODES[code], rng))
        header = ["", *_VOTE_LETTERS, "fileName", "numResponses", "agreement", "emoVote"]
        write_csv(root / "processedResults" / "tabulatedVotes.csv", header, votes)
        return clips

    return write_clips(folder, arguments, 16000, plan, n_processes)


_VOTE_LETTERS = ("A", "D", "F", "H", "N", "S")


def _crema_d_clips(n_actors: int, n_sentences: int) -> list[tuple[int, str, str, str]]:
    """(actor, sentence, emotion, level) of every clip."""
    return [
        (actor, sentence, code, level)
        for actor in range(1, n_actors + 1)
        for sentence in _SENTENCES[:n_sentences]
        for code in ("ang", "dis", "fea", "hap", "neu", "sad")
        for level in (("LO", "MD", "HI") if sentence == "IEO" and code != "neu" else ("XX",))
    ]


def _vote_row(number: int, stem: str, letter: str, rng: np.random.Generator) -> list[str]:
    """What seven to twelve listeners heard; most often the acted emotion, else mostly neutral."""
    chances = np.full(len(_VOTE_LETTERS), 0.06)
    chances[_VOTE_LETTERS.index("N")] += 0.14
    chances[_VOTE_LETTERS.index(letter)] += 0.5
    counts = rng.multinomial(int(rng.integers(7, 13)), chances / chances.sum())
    winners = [one for one, count in zip(_VOTE_LETTERS, counts, strict=True) if count == counts.max()]
    agreement = f"{counts.max() / counts.sum():.15g}"
    return [str(number), *map(str, counts), stem, str(counts.sum()), agreement, ":".join(winners)]


# --- RAVDESS ---

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
    arguments = {
        "version": GENERATOR_VERSION,
        "corpus": "ravdess",
        **sizes,
        "min_s": min_s,
        "max_s": max_s,
        "seed": seed,
    }

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
