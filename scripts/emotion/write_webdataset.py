"""Pack MSP-PODCAST into WebDataset shards: python scripts/emotion/write_webdataset.py ROOT --output FOLDER

FOLDER can then be given as data.root. Audio is kept without loss as FLAC. `--index FOLDER` writes the index of shards
that others made, `--verify FOLDER` compares all shards with their index.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rootutils

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

if TYPE_CHECKING:
    from hydraudio.tasks.emotion.corpora.utterances import Utterance

CORPUS = "MSP-PODCAST"


def main() -> int:
    arguments = _parse_arguments()
    try:
        return arguments.action(arguments)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", help="folder of the corpus")
    parser.add_argument("--output", type=Path, help="folder for the shards")
    parser.add_argument("--samples-per-shard", type=int, default=4000, help="4000")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one per CPU")
    parser.add_argument("--index", type=Path, metavar="FOLDER", help="write the index of the shards that are there")
    parser.add_argument("--verify", type=Path, metavar="FOLDER", help="check shards against their index, write nothing")
    arguments = parser.parse_args()
    if arguments.index is None and arguments.verify is None and (arguments.root is None or arguments.output is None):
        parser.error("ROOT and --output FOLDER are needed (or --index FOLDER, or --verify FOLDER)")
    arguments.action = _verify if arguments.verify else _index if arguments.index else _pack
    return arguments


def _pack(arguments: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hydraudio.tasks.emotion.corpora.webdataset.writer import write_webdataset

    rows = _read_corpus(arguments.root)
    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("shards", total=None)
        index = write_webdataset(
            rows,
            arguments.output,
            CORPUS,
            transcripts=arguments.root / "Transcripts",
            samples_per_shard=arguments.samples_per_shard,
            n_processes=arguments.processes,
            on_shard=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    print(f"wrote {len(rows)} utterances; {index} lists them; train with data.root={arguments.output}")
    return 0


def _read_corpus(root: Path) -> list[Utterance]:
    """Turns with their consensus and, where the corpus has them, the raters' votes."""
    from hydraudio.core.defects import or_raise
    from hydraudio.tasks.emotion.corpora.msp_podcast.labels import parse_consensus
    from hydraudio.tasks.emotion.corpora.msp_podcast.votes import add_votes, find_votes, parse_votes

    rows = or_raise(parse_consensus(root))
    return add_votes(rows, or_raise(parse_votes(root))) if find_votes(root) is not None else rows


def _index(arguments: argparse.Namespace) -> int:
    from hydraudio.tasks.emotion.corpora.webdataset.writer import write_index

    print(f"wrote {write_index(arguments.index, CORPUS)}; train with data.root={arguments.index}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from hydraudio.tasks.emotion.corpora.webdataset.reader import check_webdataset

    defects = check_webdataset(arguments.verify)
    print("\n".join(defect.message for defect in defects) or f"{arguments.verify}: all shards are as the index says")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
