"""Pack a PolSESS corpus into memory-mapped shards: python scripts/separation/pack_polsess.py SOURCE TARGET [...]

TARGET can then be given as data.root. A run that was stopped continues where it was. `--verify TARGET` compares every
file of a pack with the hashes in its manifest.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import rootutils

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)


def main() -> int:
    arguments = _parse_arguments()
    try:
        return _verify(arguments.verify) if arguments.verify else _pack(arguments)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", help="corpus folder with train, val and test")
    parser.add_argument("target", type=Path, nargs="?", help="folder of the pack")
    parser.add_argument("--sample-rate", type=int, default=8000, help="in Hz, that all files have (8000)")
    parser.add_argument("--rows-per-shard", type=int, default=256, help="256 indoor rows of 4 s are 131 MB")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one per CPU")
    parser.add_argument("--verify", type=Path, metavar="TARGET", help="hash the files of a pack, write nothing")
    arguments = parser.parse_args()
    if arguments.verify is None and arguments.target is None:
        parser.error("SOURCE and TARGET are needed (or --verify TARGET)")
    return arguments


def _pack(arguments: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hydraudio.tasks.separation.corpora.polsess.pack import pack_corpus

    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("shards", total=None)
        manifest = pack_corpus(
            arguments.source,
            arguments.target,
            arguments.sample_rate,
            rows_per_shard=arguments.rows_per_shard,
            n_processes=arguments.processes,
            on_shard=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    print(f"wrote {manifest}; train with data.root={arguments.target}")
    return 0


def _verify(folder: Path) -> int:
    from hydraudio.audio.packing import Pack

    changed = Pack(folder).verify()
    print("\n".join(changed) or f"{folder}: all files are as the manifest says")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
