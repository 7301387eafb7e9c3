"""Scores over the folds of a corpus: python scripts/pretraining/folds.py logs/NAME/RUN [logs/NAME/RUN ...].

    python src/train.py -m experiment=pretraining/finetune_esc50 data.root=FOLDER data.test_fold=1,2,3,4,5
    python scripts/pretraining/folds.py logs/finetune_esc50/MULTIRUN

Takes run folders, or folders of them as a multirun makes; prints mean, deviation and Student's 95 % interval over the
runs of every score in their metrics.json, and writes folds.csv with --output. All runs must be of other test folds, and
equal in all else but the seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Tabulate; 1 if the runs do not belong together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, or folders of them")
    parser.add_argument("--metrics", nargs="+", default=[], help="only these scores")
    parser.add_argument("--output", type=Path, help="CSV file to write")
    arguments = parser.parse_args(argv)
    from rich.console import Console

    from hydraudio.report.tables import rich_table, write_csv
    from hydraudio.tasks.pretraining.folds import fold_rows, fold_table, read_folds

    try:
        scores = read_folds(arguments.folders)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"folds.py: {error}\n")
        return 1
    chosen = {name: values for name, values in scores.items() if not arguments.metrics or name in arguments.metrics}
    Console().print(rich_table("Over the folds", fold_table(chosen)))
    if arguments.output:
        write_csv(arguments.output, fold_rows(chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
