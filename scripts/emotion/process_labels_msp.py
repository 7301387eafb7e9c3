"""Writes processed_labels.csv of MSP-PODCAST, as the public recipes expect it.

    python scripts/emotion/process_labels_msp.py ROOT OUTPUT_FOLDER [--soft] [--overwrite]

ROOT is the folder of the corpus (it holds Labels). processed_labels.csv has a column per class (one-hot) and
Split_Set, without turns of class Other and without agreement; processed_labels_all.csv keeps attributes, speakers and
genders too; --soft adds processed_labels_soft_P.csv (shares of raters) and processed_labels_soft_S.csv (shares of
mentions), which need labels_detailed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydraudio.core.defects import or_raise
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import parse_consensus
from hydraudio.tasks.emotion.corpora.msp_podcast.processed import write_processed
from hydraudio.tasks.emotion.corpora.msp_podcast.votes import add_votes, parse_votes


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of MSP-PODCAST")
    parser.add_argument("output", type=Path, metavar="OUTPUT_FOLDER", help="made where it does not exist")
    parser.add_argument("--soft", action="store_true", help="also write the two soft files")
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier call")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = make_parser().parse_args(argv)
    try:
        rows = or_raise(parse_consensus(arguments.root))
        if arguments.soft:
            rows = add_votes(rows, or_raise(parse_votes(arguments.root)))
        written = write_processed(rows, arguments.output, arguments.soft, arguments.overwrite)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, count in written.items():
        print(f"{path}: {count} of {len(rows)} turns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
