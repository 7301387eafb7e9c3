"""Builds a corpus in the PolSESS layout from folders of speech, scenes and events.

    python scripts/separation/build_polsess.py --speech DIR --scenes DIR --events DIR --output ROOT \\
        --rows train=800 val=100

speech/<talker>/*, scenes/{indoor,outdoor}/<class>/*, events/<class>/*: WAV, FLAC, Ogg, MP3 ..., any rate and channels.
Every row has two different talkers, a scene and an event; indoor rows also have reverberation. A call that was killed
is continued by the same command and ends bit-identical; the same command also repairs damaged or deleted files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hydraudio.tasks.separation.corpora.polsess.builder.build import build_corpus
from hydraudio.tasks.separation.corpora.polsess.builder.plan import ROOMS, SPLITS, BuildConfig
from hydraudio.tasks.separation.corpora.polsess.builder.sources import parse_assignments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    sources = parser.add_argument_group("sources and target")
    sources.add_argument("--speech", type=Path, required=True, help="one folder per talker")
    sources.add_argument("--scenes", type=Path, required=True, help="{indoor,outdoor}/<class>/")
    sources.add_argument("--events", type=Path, required=True, help="<class>/")
    sources.add_argument("--output", type=Path, required=True, help="root of the corpus")
    sources.add_argument("--rows", nargs="+", required=True, metavar="SUBSET=N", help="train=N val=N test=N")
    add("--sample-rate", type=int, default=8000, choices=(8000, 16000), help="in Hz")
    add("--duration", type=float, default=4.0, metavar="S", help="length of the clips in s")
    levels = parser.add_argument_group("levels, in dB")
    levels.add_argument("--ssr", type=int, nargs=2, default=(-5, 5), metavar=("LOW", "HIGH"))
    levels.add_argument("--scene-db", type=float, nargs=2, default=(-14.0, 0.0), metavar=("LOW", "HIGH"))
    events = levels.add_mutually_exclusive_group()
    events.add_argument("--event-db", type=float, nargs=2, default=(-15.0, 0.0), metavar=("LOW", "HIGH"))
    events.add_argument("--natural-event-level", action="store_true", help="as recorded, like the original corpus")
    rooms = parser.add_argument_group("rooms")
    rooms.add_argument("--indoor", type=float, default=0.5, metavar="SHARE", help="share of indoor rows")
    rooms.add_argument("--room", choices=ROOMS, default=ROOMS[0], help="pyroomacoustics needs the extra 'sim'")
    rooms.add_argument(
        "--rt60", type=float, nargs=2, default=(0.2, 0.6), metavar=("LOW", "HIGH"), help="pyroomacoustics, in s"
    )
    rooms.add_argument(
        "--distance", type=float, nargs=2, default=(0.4, 1.6), metavar=("LOW", "HIGH"), help="to the microphone, in m"
    )
    split = parser.add_argument_group("split (scenes and events are always split by file)")
    split.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="disjoint talkers, or only files")
    split.add_argument("--fractions", nargs="+", default=["train=0.8", "val=0.1", "test=0.1"], metavar="SUBSET=SHARE")
    named = split.add_mutually_exclusive_group()
    named.add_argument("--talkers", nargs="+", metavar="SUBSET=A,B", help="train=a,b,c val=d,e test=f,g")
    named.add_argument("--split-file", type=Path, help="CSV with the columns name, split and maybe kind")
    split.add_argument(
        "--test-from-val",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of the val talkers that test, where --talkers or --split-file names none for test",
    )
    split.add_argument(
        "--never-pair-prefix", nargs="+", default=(), metavar="PREFIX", help="such talkers may be one person"
    )
    add("--match", type=Path, help="CSV matrix: scene classes x event classes, 0 or 1")
    add("--seed", type=int, default=0)
    add("--processes", type=int, default=None, help="default: as many as there are CPUs")
    return parser


def make_config(arguments: argparse.Namespace) -> BuildConfig:
    talkers = None
    if arguments.talkers:
        named = parse_assignments(arguments.talkers, "--talkers")
        talkers = {subset: tuple(text.split(",")) for subset, text in named.items()}
    return BuildConfig(
        speech=arguments.speech,
        scenes=arguments.scenes,
        events=arguments.events,
        rows=_numbers(arguments.rows, "--rows", int),
        sample_rate=arguments.sample_rate,
        duration_s=arguments.duration,
        ssr_db=tuple(arguments.ssr),
        scene_db=tuple(arguments.scene_db),
        event_db=None if arguments.natural_event_level else tuple(arguments.event_db),
        indoor=arguments.indoor,
        room=arguments.room,
        rt60_s=tuple(arguments.rt60),
        distance_m=tuple(arguments.distance),
        split=arguments.split,
        fractions=_numbers(arguments.fractions, "--fractions", float),
        talkers=talkers,
        split_file=arguments.split_file,
        test_from_val=arguments.test_from_val,
        never_pair_prefixes=tuple(arguments.never_pair_prefix),
        match=arguments.match,
        seed=arguments.seed,
    )


def _numbers(words: list[str], option: str, convert: type) -> dict:
    try:
        return {subset: convert(text) for subset, text in parse_assignments(words, option).items()}
    except ValueError as error:
        raise ValueError(f"{option} {' '.join(words)}: {error}") from error


def main() -> int:
    arguments = make_parser().parse_args()
    bar = Progress(TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        config = make_config(arguments)
        with bar:
            task = bar.add_task("rows", total=sum(config.rows.values()))
            root = build_corpus(
                config, arguments.output, arguments.processes, lambda done, _: bar.update(task, completed=done)
            )
            bar.update(task, completed=sum(config.rows.values()))
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    counts = ", ".join(f"{subset} {count}" for subset, count in config.rows.items())
    print(f"{root}: {counts} rows at {config.sample_rate} Hz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
